package localstack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

// patient is a context with a deadline: without one the client gives up after five seconds.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// logStream connects and returns a stream of the log's first subjects.
func logStream(t *testing.T, url string, partitions int) (jetstream.JetStream, []jetstream.Stream) {
	t.Helper()
	nc, err := nats.Connect(url, nats.Timeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	streams := make([]jetstream.Stream, partitions)
	for i := range streams {
		streams[i], err = js.CreateOrUpdateStream(patient(t), jetstream.StreamConfig{
			Name: fmt.Sprintf("USAGE_%d", i), Subjects: []string{fmt.Sprintf("usage.log.%d.>", i)},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return js, streams
}

func TestMappingPicksThePartition(t *testing.T) {
	t.Parallel()
	const partitions, tenants = 3, 30
	start := map[string]localstack.Options{
		"in process": {NoClickHouse: true, NATS: localstack.NATSConfig{Partitions: partitions}},
		"child":      {NoClickHouse: true, NATS: localstack.NATSConfig{Partitions: partitions}, NATSChild: true},
	}
	for name, opts := range start {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js, streams := logStream(t, localstack.Start(t, opts).NATSURL, partitions)
			used := map[string]bool{}
			for i := range tenants {
				first := publish(t, js, fmt.Sprintf("usage.in.tenant-%d.events", i))
				again := publish(t, js, fmt.Sprintf("usage.in.tenant-%d.chunk", i))
				if first.Stream != again.Stream || again.Sequence != first.Sequence+1 {
					t.Errorf("tenant %d: %s %d, then %s %d", i, first.Stream, first.Sequence, again.Stream, again.Sequence)
				}
				used[first.Stream] = true
				want := fmt.Sprintf("usage.log.%s.tenant-%d.events", strings.TrimPrefix(first.Stream, "USAGE_"), i)
				msg, err := streams[index(t, first.Stream)].GetMsg(patient(t), first.Sequence)
				if err != nil || msg.Subject != want {
					t.Errorf("tenant %d: stored as %+v, %v; want subject %s", i, msg, err, want)
				}
			}
			if len(used) != partitions {
				t.Errorf("%d tenants went to %v, want all %d partitions", tenants, used, partitions)
			}
		})
	}
}

// publish demands the PubAck of a subject that the server maps.
func publish(t *testing.T, js jetstream.JetStream, subject string) *jetstream.PubAck {
	t.Helper()
	ack, err := js.Publish(patient(t), subject, []byte("x"))
	if err != nil {
		t.Fatalf("publish %s: %v", subject, err)
	}
	return ack
}

func index(t *testing.T, stream string) int {
	t.Helper()
	var n int
	if _, err := fmt.Sscanf(stream, "USAGE_%d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAcknowledgedMessagesSurviveAKill(t *testing.T) {
	t.Parallel()
	server := localstack.Start(t, localstack.Options{NoClickHouse: true, NATSChild: true}).NATSChild
	js, _ := logStream(t, server.URL(), 1)
	for range 10 {
		publish(t, js, "usage.in.acme.events")
	}
	pid := server.PID()
	server.Kill()
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if server.PID() == pid {
		t.Error("still the same process")
	}
	_, streams := logStream(t, server.URL(), 1)
	info, err := streams[0].Info(patient(t))
	if err != nil || info.State.Msgs != 10 || info.State.LastSeq != 10 {
		t.Errorf("after the kill: %+v, %v; want 10 messages", info.State, err)
	}
}

// Ingest reads here whether an acknowledged message is on disk.
func TestMonitoringTellsTheSyncSetting(t *testing.T) {
	t.Parallel()
	for _, lazy := range []bool{false, true} {
		s := localstack.Start(t, localstack.Options{NoClickHouse: true, NATS: localstack.NATSConfig{LazySync: lazy}})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.MonitorURL+"/varz", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var varz struct {
			MaxPayload int `json:"max_payload"`
			JetStream  struct {
				Config struct {
					SyncAlways bool `json:"sync_always"`
				} `json:"config"`
			} `json:"jetstream"`
		}
		err = json.NewDecoder(resp.Body).Decode(&varz)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if varz.JetStream.Config.SyncAlways == lazy || varz.MaxPayload != 1<<20 {
			t.Errorf("lazy sync %v: /varz says %+v", lazy, varz)
		}
	}
}

func TestPartitionsAreFixedAtCreation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := localstack.StartNATS(localstack.NATSConfig{Dir: dir, Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(first.Stop)
	if err := first.Restart(); err != nil {
		t.Errorf("restart with the same partitions: %v", err)
	}
	first.Stop()
	_, err = localstack.StartNATS(localstack.NATSConfig{Dir: dir, Partitions: 3})
	wantError(t, err, "made with 2 partitions", "cannot run with 3")
}

func TestTakenNATSPortIsAnErrorAtOnce(t *testing.T) {
	t.Parallel()
	first := localstack.Start(t, localstack.Options{NoClickHouse: true})
	taken := port(t, strings.TrimPrefix(first.NATSURL, "nats://"))
	_, err := localstack.StartNATS(localstack.NATSConfig{Dir: t.TempDir(), Port: taken})
	wantError(t, err, "address already in use")
	_, err = localstack.StartNATSChild(t.Context(), localstack.NATSConfig{Dir: t.TempDir(), Port: taken})
	wantError(t, err, "start nats", "address already in use")
}

// What is deployed is what is tested: the reference configuration, with other ports and storage.
func TestReferenceConfiguration(t *testing.T) {
	t.Parallel()
	opts, err := server.ProcessConfigFile(filepath.Join("..", "..", "deploy", "nats", "nats-server.conf"))
	if err != nil {
		t.Fatal(err)
	}
	local := localstack.Start(t, localstack.Options{NoClickHouse: true})
	got, err := local.NATS.Server().Varz(nil)
	if err != nil {
		t.Fatal(err)
	}
	if opts.SyncAlways != got.JetStream.Config.SyncAlways || opts.MaxPayload != int32(got.MaxPayload) || opts.MaxConn != got.MaxConn || !opts.JetStream {
		t.Errorf("reference: sync always %v, max payload %d, max connections %d, jetstream %v; localstack: %+v %d %d",
			opts.SyncAlways, opts.MaxPayload, opts.MaxConn, opts.JetStream, got.JetStream.Config, got.MaxPayload, got.MaxConn)
	}
	ports, err := localstack.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	opts.Port, opts.HTTPPort, opts.StoreDir, opts.NoSigs = ports[0], 0, t.TempDir(), true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	eventually(t, "the reference server is ready", func() bool { return s.ReadyForConnections(time.Second) && s.JetStreamEnabled() })
	js, streams := logStream(t, s.ClientURL(), 1)
	ack := publish(t, js, "usage.in.acme.events")
	msg, err := streams[0].GetMsg(patient(t), ack.Sequence)
	if err != nil || msg.Subject != "usage.log.0.acme.events" {
		t.Errorf("stored as %+v, %v; want subject usage.log.0.acme.events", msg, err)
	}
}
