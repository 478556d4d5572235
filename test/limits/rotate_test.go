package limits_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/warehouse"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/oracle"
)

const (
	rotationWait = 2 * time.Minute // patience for one step, on a loaded machine
	writer       = "writer"        // user of ClickHouse

	producerPace = 5 * time.Millisecond
	// publishWait is how long ingest lets a request wait for the log. Who waited so long was on a machine that stood
	// still: no rotation takes seconds.
	publishWait = 5 * time.Second
)

// TestF30Rotation: while producers send, the certificate of ingest, the credentials of NATS and the password of
// ClickHouse are replaced, and the old ones stop working. Nothing is restarted but the engine, which reads users
// only then; no request fails, and everything that was acknowledged is counted once.
func TestF30Rotation(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	r.start()
	stop, sent := r.produce()

	r.answers(r.first.leaf.SerialNumber)
	r.renew(r.second)
	r.answers(r.second.leaf.SerialNumber)

	r.creds("second")
	r.nats.revoke("first")
	r.await("every connection has the new credentials", func() bool { return r.nats.connections("first") == 0 && r.nats.connections("second") >= 2 })

	before := r.counted()
	r.setPassword("second", false) // the server is ahead of the file
	r.await("the aggregator is refused", func() bool { return r.refused() })
	r.writePassword("second")
	r.await("events are counted with the new password", func() bool { return r.counted() > before })

	acked, failed := stop()
	r.await("everything is counted", func() bool { return r.counted() == int64(acked) })
	doubled, err := r.oracle().Numbers(t.Context(), "SELECT count() - uniqExact(id) FROM countinghouse.events")
	if err != nil || doubled[0] != 0 {
		t.Errorf("%v events are stored twice, %v", doubled, err)
	}
	if failed > 0 {
		t.Errorf("%d requests of %d failed", failed, sent.Load())
	}
	if !t.Failed() {
		fmt.Printf("F30r PASS seed=0 requests=%d failed=0 acked=%d stored=%d lost=0 doubled=0 certificates=2 credentials=2 passwords=2 restarts=0\n", sent.Load(), acked, acked)
	}
}

// rotation is ingest and an aggregator before a NATS server with accounts and a ClickHouse with a password.
type rotation struct {
	t             *testing.T
	ctx           context.Context
	dir           string
	ports         []int
	nats          *accounts
	clickhouse    *localstack.ClickHouse
	first, second pair
	token         string
	logs          map[string]string
}

func (r *rotation) file(name string) string { return filepath.Join(r.dir, name) }

func newRotation(t *testing.T) *rotation {
	t.Helper()
	r := &rotation{t: t, ctx: context.WithoutCancel(t.Context()), dir: t.TempDir(), logs: map[string]string{}}
	r.first, r.second = newPair(t, r.dir, "first", time.Now().Add(time.Hour)), newPair(t, r.dir, "second", time.Now().Add(time.Hour))
	r.nats = startAccounts(t, r.file("nats"))
	r.creds("first")
	r.renew(r.first)
	engine, err := localstack.EnsureEngine(r.ctx, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	r.setPassword("first", true)
	if r.clickhouse, err = localstack.StartClickHouse(r.ctx, localstack.ClickHouseConfig{Engine: engine, Dir: r.file("clickhouse")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.clickhouse.Stop(localstack.StopGrace) }) // the test has ended
	if r.ports, err = localstack.FreePorts(3); err != nil {
		t.Fatal(err)
	}
	return r
}

// start makes tables, streams and a key, and starts the services.
func (r *rotation) start() {
	r.t.Helper()
	w, err := warehouse.Open(r.ctx, warehouse.Config{DSN: r.dsn(), PasswordFile: r.file("password")}, zap.NewNop())
	if err != nil {
		r.t.Fatal(err)
	}
	defer w.Close()
	if err := w.Migrate(r.ctx, nil); err != nil {
		r.t.Fatal(err)
	}
	l, err := eventlog.Dial(eventlog.Config{URL: r.nats.ClientURL(), Creds: r.file("creds"), MaxBytes: largeLog}, zap.NewNop())
	if err != nil {
		r.t.Fatal(err)
	}
	defer l.Close()
	store, err := control.Open(r.ctx, l.Conn(), zap.NewNop())
	if err != nil {
		r.t.Fatal(err)
	}
	defer store.Close()
	r.await("the log is made", func() bool { return l.EnsureStreams(r.ctx) == nil })
	r.await("a key is made", func() bool {
		_, r.token, err = store.Create(r.ctx, "acme", "rotation", []string{"events:write"}, time.Time{})
		return err == nil
	})
	monitor := "http://" + r.nats.MonitorAddr().String()
	r.service("ingest", r.port(1), "--listen", r.port(0), "--tls-cert", r.file("tls.crt"), "--tls-key", r.file("tls.key"), "--nats-monitor-urls", monitor, "--nats-max-bytes", fmt.Sprint(int64(largeLog)))
	r.service("aggregator", r.port(2), "--clickhouse", r.dsn(), "--clickhouse-password-file", r.file("password"), "--dir", r.file("filters"), "--nats-monitor-urls", monitor)
}

func (r *rotation) service(name, admin string, args ...string) {
	r.t.Helper()
	log := r.file(name + ".log")
	proc, err := localstack.StartPart(r.ctx, localstack.Part{
		Name: name, Exe: fight.Program(), LogFile: log,
		Args: append([]string{"__" + name, "--admin-listen", admin, "--nats", r.nats.ClientURL(), "--nats-creds", r.file("creds"), "--log-format", "json"}, args...),
		Ready: func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
			if err != nil {
				return err
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			if res.StatusCode != http.StatusOK {
				return fmt.Errorf("%s", res.Status)
			}
			return nil
		},
	})
	if err != nil {
		text, _ := os.ReadFile(log) // for the message only
		r.t.Fatalf("%v\n%s", err, text)
	}
	r.logs[name] = log
	r.t.Cleanup(func() { _ = proc.Stop(localstack.StopGrace) }) // the test has ended
}

func (r *rotation) port(i int) string { return fmt.Sprintf("127.0.0.1:%d", r.ports[i]) }

func (r *rotation) dsn() string {
	return "clickhouse://" + writer + "@" + r.clickhouse.Addr() + "/countinghouse"
}

func (r *rotation) oracle() oracle.ClickHouse { return oracle.ClickHouse(r.clickhouse.URL()) }

// replace writes a file as everybody should: whole, under its name at once.
func (r *rotation) replace(name string, text []byte) {
	r.t.Helper()
	if err := os.WriteFile(r.file(name+".new"), text, 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(r.file(name+".new"), r.file(name)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rotation) renew(p pair) {
	r.t.Helper()
	for name, from := range map[string]string{"tls.crt": p.cert, "tls.key": p.key} {
		text, err := os.ReadFile(from)
		if err != nil {
			r.t.Fatal(err)
		}
		r.replace(name, text)
	}
}

func (r *rotation) creds(user string)         { r.replace("creds", r.nats.user(user)) }
func (r *rotation) writePassword(word string) { r.replace("password", []byte(word+"\n")) }

// setPassword changes the user in ClickHouse, which reads its users when it starts; with the file, the services too.
func (r *rotation) setPassword(word string, both bool) {
	r.t.Helper()
	if both {
		r.writePassword(word)
	}
	dir := filepath.Join(r.file("clickhouse"), "users.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
	text := "<clickhouse><users><" + writer + "><password>" + word + "</password><profile>default</profile><quota>default</quota></" + writer + "></users></clickhouse>"
	if err := os.WriteFile(filepath.Join(dir, "writer.xml"), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if r.clickhouse != nil {
		if err := r.clickhouse.Restart(r.ctx); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rotation) await(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.After(rotationWait)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			r.logs["clickhouse"] = filepath.Join(r.file("clickhouse"), "clickhouse.log")
			for _, log := range r.logs {
				text, _ := os.ReadFile(log) // for the message only
				r.t.Logf("%s:\n%s", log, text[max(0, len(text)-4000):])
			}
			r.t.Fatalf("not within %s: %s", rotationWait, what)
		}
	}
}

// refused reports whether the aggregator says that its password is wrong.
func (r *rotation) refused() bool {
	res, err := http.Get("http://" + r.port(2) + "/readyz?verbose")
	if err != nil {
		return false
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<16)) // half an answer says no
	return res.StatusCode == http.StatusServiceUnavailable && contains(text, "Authentication failed")
}

// counted is how many events there are; -1 while that is not known. The engine of the tests dies of a connection
// that is reset, which a refused client does; a server does not, and a process manager would start it again.
func (r *rotation) counted() int64 {
	select {
	case <-r.clickhouse.Process().Done():
		r.t.Logf("the engine ended (%v); started again", r.clickhouse.Process().Err())
		if err := r.clickhouse.Restart(r.ctx); err != nil {
			r.t.Fatal(err)
		}
	default:
	}
	n, err := r.oracle().Numbers(r.ctx, "SELECT count() FROM countinghouse.events")
	if err != nil {
		return -1
	}
	return n[0]
}

func (r *rotation) client() *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(r.first.leaf)
	roots.AddCert(r.second.leaf)
	return &http.Client{Timeout: rotationWait, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
}

// answers waits until ingest shows a certificate.
func (r *rotation) answers(serial *big.Int) {
	r.t.Helper()
	r.await("ingest shows certificate "+serial.String(), func() bool {
		conn, err := tls.Dial("tcp", r.port(0), r.client().Transport.(*http.Transport).TLSClientConfig)
		if err != nil {
			r.t.Errorf("handshake: %v", err)
			return true
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Cmp(serial) == 0
	})
}

// produce sends, with a new connection for each request, until stop.
func (r *rotation) produce() (stop func() (acked, failed int), sent *atomic.Int64) {
	sent = new(atomic.Int64)
	var good, bad atomic.Int64
	ending := make(chan struct{})
	var sending sync.WaitGroup
	client := r.client()
	for s := range senders {
		sending.Go(func() {
			pace := time.NewTicker(producerPace)
			defer pace.Stop()
			for n := 0; ; n++ {
				select {
				case <-ending:
					return
				case <-pace.C:
				}
				sent.Add(1)
				begun := time.Now()
				event := fmt.Appendf(nil, `[{"specversion":"1.0","type":"usage.metered","source":"/f30","id":"%d-%d","subject":"a","data":{"meter":"tokens","quantity":"1"}}]`, s, n)
				status, p := post(r.t, client, "https://"+r.port(0)+"/api/v1/events", r.token, event)
				switch {
				case status == http.StatusAccepted:
					good.Add(1)
				case r.t.Context().Err() != nil:
					return
				case !fight.Soak && status == http.StatusServiceUnavailable && time.Since(begun) >= publishWait:
					r.t.Logf("answered %d %v after %s; sent again", status, p.codes(), time.Since(begun))
					n--
				default:
					bad.Add(1)
					r.t.Logf("answered %d %v", status, p.codes())
				}
			}
		})
	}
	return func() (int, int) {
		close(ending)
		sending.Wait()
		return int(good.Load()), int(bad.Load())
	}, sent
}

// accounts is a NATS server whose users have credentials files.
type accounts struct {
	*server.Server
	t *testing.T
	*signers
}
