// Package upgrade brings a running system from one version to the next and back, under load, and asks the oracle
// what is left. About 20 s in the short form.
package upgrade_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/warehouse"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

func TestMain(m *testing.M) { fight.Main(m) }

// nextVersion is what version N+1 says it is. It is today's program all the same: what is tested is the way there.
const nextVersion = "v99.9.9"

// drainDelay is many of the balancer's probes, for a machine with other work.
const drainDelay = time.Second

// F28: N is upgraded to N+1 and taken back, one process after the other, while producers send and every process
// gets SIGTERM under load. The database begins one migration behind and is migrated by a program that dies after
// each statement; then it is one ahead of what the programs know. No request that a service took stays unanswered,
// and what was acknowledged is counted once.
func TestF28Upgrade(t *testing.T) {
	u := begin(t)
	f := u.fight
	f.Load.Mark()

	deaths := u.migrate(t)
	u.sameSchema(t)
	f.Recovered()
	u.ahead(t)
	f.Recovered() // N writes to tables of N+1

	u.install(t, u.next)
	u.roll(t, u.nextVersion)
	f.Recovered()
	for range fight.Rounds(0, 5) { // there and back, again and again
		u.install(t, u.program)
		u.roll(t, u.version)
		u.install(t, u.next)
		u.roll(t, u.nextVersion)
	}
	u.install(t, u.program)
	u.roll(t, u.version)
	f.Recovered()

	if n := u.balancer.broken.Load(); n > 0 {
		t.Errorf("%d requests were taken and not answered: %v", n, u.balancer.reason.Load())
	}
	if n := f.Crashes(); n > 0 {
		t.Errorf("%d processes ended by themselves", n)
	}
	f.Note = fmt.Sprintf(" migrator_deaths=%d rolled=%d answers=%q broken=0 late=%d", deaths, u.rolled, f.Load.Tally(), u.balancer.late.Load())
	f.End()
}

// upgrade is a system with its programs behind a link, as a package manager puts them.
type upgrade struct {
	nextVersion   string // as the next program says it: as long as the other
	fight         *fight.Fight
	balancer      *balancer
	services      []*service // all of the product's, in the order in which they are upgraded
	link          string
	program, next string
	version       string // of program
	rolled        int
}

// service is a running program, and where it is asked how it is.
type service struct {
	part *rig.Part
	url  *url.URL // of what it serves; nil: nothing
}

func begin(t *testing.T) *upgrade {
	t.Helper()
	dir := t.TempDir()
	u := &upgrade{program: fight.Program(), next: filepath.Join(dir, "next"), link: filepath.Join(dir, "countinghouse")}
	var err error
	if u.nextVersion, err = rig.Stamp(u.program, u.next, nextVersion); err != nil {
		t.Fatal(err)
	}
	u.install(t, u.program)
	drain := []string{"--http-drain-delay", drainDelay.String()}
	u.fight = fight.On(t, "F28", func() *rig.Rig {
		r := rig.Start(t, rig.Options{Program: u.link, Aggregators: []string{"one", "two"}, Behind: true, IngestFlags: drain})
		u.services = append(u.services, &service{part: r.Aggregators[0]}, &service{part: r.Aggregators[1]})
		other, otherURL := r.StartIngest(drain...)
		first := &service{part: r.Ingest, url: parse(t, strings.TrimSuffix(r.URL(), "/api/v1/events"))}
		second := &service{part: other, url: parse(t, otherURL)}
		reporter, reporterURL := r.StartReporter(drain...)
		u.services = append(u.services, first, second, &service{part: reporter, url: parse(t, reporterURL)})
		u.balancer = balance(t, first, second)
		r.Front(u.balancer.URL)
		return r
	})
	u.version = u.versionOf(u.services[0])
	if u.version == u.nextVersion {
		t.Fatalf("both programs say they are %s", u.nextVersion)
	}
	return u
}

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	address, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// install has the next life of every process be of a program.
func (u *upgrade) install(t *testing.T, program string) {
	t.Helper()
	next := u.link + ".new"
	if err := errors.Join(os.Symlink(program, next), os.Rename(next, u.link)); err != nil {
		t.Fatal(err)
	}
}

// roll restarts one process after the other, and waits until each is ready.
func (u *upgrade) roll(t *testing.T, version string) {
	t.Helper()
	for _, s := range u.services {
		begun, back := time.Now(), s.part.Back()
		if s.url == nil {
			u.halt(t, s)
		} else {
			u.drain(t, s)
		}
		u.fight.Await(s.part, back)
		u.fight.Rig.Until(s.part.Name+" is ready", rig.SettleWait, s.part.Ready)
		if now := u.versionOf(s); now != version {
			t.Errorf("%s is version %s, want %s", s.part.Name, now, version)
		}
		t.Logf("%s was replaced within %s", s.part.Name, time.Since(begun))
		u.rolled++
	}
}

// halt is SIGTERM, and the proof that the process ends by itself.
func (u *upgrade) halt(t *testing.T, s *service) {
	t.Helper()
	begun := time.Now()
	if err := s.part.Halt(rig.SettleWait, nil); err != nil {
		t.Error(err)
	}
	u.fight.Within("the end of "+s.part.Name, time.Since(begun), localstack.StopGrace)
}

// drain is SIGTERM, and the proof that who believes /readyz meets no closed door: once it has turned, the service
// still takes connections and answers. Who comes when the drain delay is over, on a machine that stood still, may.
func (u *upgrade) drain(t *testing.T, s *service) {
	t.Helper()
	begun, ended := time.Now(), make(chan struct{})
	go func() {
		defer close(ended)
		u.halt(t, s)
	}()
	over := false
	u.fight.Rig.Until(s.part.Name+" says it is not ready", rig.SettleWait, func(ctx context.Context) bool {
		select {
		case <-ended:
			over = true
		default:
		}
		return over || !s.part.Ready(ctx)
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url.String()+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	switch took := time.Since(begun); {
	case err == nil:
		_ = res.Body.Close() // it was answered: 405 of ingest, 401 of the reporter
	case took < drainDelay:
		t.Errorf("%s closed its door before the drain delay of %s was over: %v", s.part.Name, drainDelay, err)
	default:
		t.Logf("%s was asked only %s after it was told to end: %v", s.part.Name, took, err)
	}
	<-ended
}

// versionOf waits until a service says which version it is.
func (u *upgrade) versionOf(s *service) string {
	u.fight.T.Helper()
	var v struct{ Version string }
	u.fight.Rig.Until(s.part.Name+" says its version", rig.SettleWait, func(ctx context.Context) bool {
		body, err := rig.Fetch(ctx, s.part.Admin()+"/version")
		if err != nil {
			return false
		}
		defer body.Close()
		return json.NewDecoder(body).Decode(&v) == nil
	})
	return v.Version
}

// migrate runs the migrator until one life of it ends in peace: the n-th dies after its n-th statement, which the
// next one repeats.
func (u *upgrade) migrate(t *testing.T) (deaths int) {
	t.Helper()
	for n := 1; ; n++ {
		cmd := exec.CommandContext(t.Context(), u.next, "migrate", "--clickhouse", u.fight.Rig.DSN())
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=warehouse/migrated:%d", faultpoint.Variable, n))
		out, err := cmd.CombinedOutput()
		if err == nil {
			if n == 1 {
				t.Errorf("there was nothing to migrate:\n%s", out)
			}
			return deaths
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("migrate: %v\n%s", err, out)
		}
		deaths++
	}
}

// sameSchema compares the tables with those of a database that was made in one go.
func (u *upgrade) sameSchema(t *testing.T) {
	t.Helper()
	const fresh = "fresh"
	w, err := warehouse.Open(t.Context(), warehouse.Config{DSN: strings.TrimSuffix(u.fight.Rig.DSN(), rig.Database) + fresh}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	want, got := u.tables(t, fresh, w.API()), u.tables(t, rig.Database, "usage_api")
	if !slices.Equal(got, want) {
		t.Errorf("after a migrator that died, the tables are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (u *upgrade) tables(t *testing.T, database, views string) []string {
	t.Helper()
	rows, err := u.fight.Rig.Warehouse().Rows(t.Context(), `SELECT name, replaceAll(replaceAll(create_table_query, '`+views+`.', ''), '`+database+`.', '')
		FROM system.tables WHERE database IN ('`+database+`', '`+views+`') ORDER BY database = '`+database+`', name`)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, row := range rows {
		out = append(out, strings.Join(row, " "))
	}
	return out
}

// ahead brings the database to a schema that today's programs do not know: each table that they write has a column
// more, with a default, and there is a table and a migration more. That is all that one version may do (docs/how-to/run-in-production.md).
func (u *upgrade) ahead(t *testing.T) {
	t.Helper()
	statements := []string{
		"CREATE TABLE " + rig.Database + ".of_tomorrow (n UInt64) ENGINE = MergeTree ORDER BY n",
		"INSERT INTO " + rig.Database + ".migrations (name, hash, applied_at) SELECT '9999_tomorrow.sql', 'tomorrow', now64(3, 'UTC')",
	}
	for target := range warehouse.Targets {
		statements = append(statements, fmt.Sprintf("ALTER TABLE %s.%s ADD COLUMN of_tomorrow String DEFAULT 'x'", rig.Database, target))
	}
	for _, statement := range statements {
		body, err := u.fight.Rig.Warehouse().Stream(t.Context(), statement)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, body)
		if err := errors.Join(err, body.Close()); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), u.program, "migrate", "--clickhouse", u.fight.Rig.DSN()).CombinedOutput()
	if err != nil {
		t.Errorf("the migrator of N on the schema of N+1: %v\n%s", err, out)
	}
}
