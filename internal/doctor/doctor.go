// Package doctor looks at a running stack and says what is wrong and what to do about it.
//
// Guarantee: it changes nothing. Every check ends in one line, whatever happens: a check that cannot be
// made is a finding of its own. "fail" means that events may be lost, refused or not counted; "warn"
// that they will be, unless somebody acts.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Level of a finding.
type Level string

// Levels.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// Finding is one line of the doctor.
type Finding struct {
	Check  string
	Level  Level
	Detail string
	Do     string // what to do; "" when ok
}

// Target is what is looked at. Empty fields are not.
type Target struct {
	Log        *eventlog.Log
	Keys       *control.Store
	Warehouse  *warehouse.Warehouse // for reading
	Servers    *warehouse.Servers   // whose reader that is
	Dir        string               // whose disk is looked at
	Admin      map[string]string    // service → URL of its admin port
	AnalystURL string               // of ClickHouse over HTTP, with an analyst's user and password in its query
	Tenant     string               // of the analyst
	Now        func() time.Time
}

const (
	checkWait = 10 * time.Second
	lagWarn   = 30 * time.Second // of pending events: freshness is promised within 2 s
	diskWarn  = 70               // per cent used
	diskFail  = 90
	diskRoom  = 10 // GiB free: a disk with more is no failure yet
	clockWarn = 2 * time.Second
)

// Examine makes every check, in the order in which a failure explains those after it.
func Examine(ctx context.Context, t *Target) []Finding {
	e := &examination{target: t}
	e.run(ctx, "nats", e.nats)
	e.run(ctx, "nats durability", e.durability)
	e.run(ctx, "log mapping", e.mapping)
	e.run(ctx, "log streams", e.streams)
	e.run(ctx, "keys", e.keys)
	e.run(ctx, "clickhouse", e.clickhouse)
	e.run(ctx, "clickhouse settings", e.settings)
	e.run(ctx, "migrations", e.migrations)
	e.run(ctx, "detached parts", e.detached)
	e.run(ctx, "freshness", e.freshness)
	e.run(ctx, "dead letters", e.deadLetters)
	e.run(ctx, "clock", e.clock)
	e.run(ctx, "analyst isolation", e.analyst)
	e.run(ctx, "disk", e.disk)
	e.services(ctx)
	return e.findings
}

type examination struct {
	target   *Target
	findings []Finding
}

// result of a check: nothing said is ok with the detail.
type result struct {
	level  Level
	detail string
	do     string
}

func ok(format string, args ...any) result { return result{OK, fmt.Sprintf(format, args...), ""} }

func fail(do, format string, args ...any) result {
	return result{Fail, fmt.Sprintf(format, args...), do}
}

func warn(do, format string, args ...any) result {
	return result{Warn, fmt.Sprintf(format, args...), do}
}

// absent marks a check of something that is not part of the target.
var absent = result{}

func (e *examination) run(ctx context.Context, name string, check func(context.Context) result) {
	ctx, cancel := context.WithTimeout(ctx, checkWait)
	defer cancel()
	if r := check(ctx); r != absent {
		e.findings = append(e.findings, Finding{Check: name, Level: r.level, Detail: oneLine(r.detail), Do: r.do})
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func (e *examination) nats(ctx context.Context) result {
	if e.target.Log == nil {
		return absent
	}
	names, err := e.target.Log.Conn().Streams(ctx)
	if err != nil {
		return fail("start NATS, or correct --nats", "%v", err)
	}
	return ok("reachable, %d streams", len(names))
}

func (e *examination) durability(ctx context.Context) result {
	if e.target.Log == nil {
		return absent
	}
	d, err := e.target.Log.Durability(ctx)
	switch {
	case err != nil:
		return fail("see the check of nats", "%v", err)
	case d.Safe():
		return ok("%s", d)
	case d.Sync == eventlog.SyncUnknown:
		return warn("name the monitoring URL of every NATS server (--nats-monitor, nats.monitor_urls)", "%s", d)
	}
	return fail("set sync_interval: always in the NATS server's jetstream block, or use 3 replicas", "acknowledged events can be lost in a power cut: %s", d)
}

func (e *examination) mapping(ctx context.Context) result {
	if e.target.Log == nil {
		return absent
	}
	if err := e.target.Log.CheckMapping(ctx); err != nil {
		return fail("add the subject mapping of deploy/nats to the server", "%v", err)
	}
	return ok("usage.in.* is mapped to partitions by the server")
}

func (e *examination) streams(ctx context.Context) result {
	l := e.target.Log
	if l == nil {
		return absent
	}
	var said []string
	worst := OK
	for p := range l.Partitions() {
		info, err := l.Info(ctx, p)
		if err != nil {
			return fail("start ingest once, or run `countinghouse up`", "USAGE_%d: %v", p, err)
		}
		if info.MaxBytes <= 0 {
			return fail("set nats.max_bytes", "USAGE_%d has no limit: a full disk would stop the server", p)
		}
		used := info.Bytes * 100 / info.MaxBytes
		switch {
		case used >= diskFail:
			worst = Fail
		case used >= diskWarn && worst == OK:
			worst = Warn
		}
		said = append(said, fmt.Sprintf("USAGE_%d: messages %d to %d, %d%% of %d MiB", p, info.First, info.Last, used, info.MaxBytes>>20))
		if info.First > 1 {
			return fail("restore the log from a backup", "USAGE_%d begins at sequence %d: history is gone", p, info.First)
		}
	}
	if worst != OK {
		return result{worst, strings.Join(said, "; "), "raise nats.max_bytes or the disk: a full log refuses events"}
	}
	return ok("%s", strings.Join(said, "; "))
}

func (e *examination) keys(ctx context.Context) result {
	if e.target.Keys == nil {
		return absent
	}
	all, err := e.target.Keys.List(ctx, "")
	if err != nil {
		return fail("see the check of nats", "%v", err)
	}
	now, live, soon := e.target.Now(), 0, 0
	for _, k := range all {
		switch {
		case !k.RevokedAt.IsZero() || (!k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt)):
		case !k.ExpiresAt.IsZero() && k.ExpiresAt.Sub(now) < 7*24*time.Hour:
			soon++
			live++
		default:
			live++
		}
	}
	switch {
	case live == 0:
		return fail("countinghouse keys create --tenant T --scope events:write", "no key is in force: nobody can send")
	case soon > 0:
		return warn("countinghouse keys ls; make new ones in time", "%d of %d keys in force end within 7 days", soon, live)
	}
	return ok("%d in force, %d revoked or expired", live, len(all)-live)
}

func (e *examination) clickhouse(ctx context.Context) result {
	w := e.target.Warehouse
	if w == nil {
		return absent
	}
	var version string
	err := w.Query(ctx, `SELECT version()`, nil, func(r warehouse.Rows) error { return r.Scan(&version) })
	if err != nil {
		return fail("start ClickHouse, or correct --clickhouse; ingest goes on taking events meanwhile", "%v", err)
	}
	if !e.target.Servers.Several() {
		return ok("reachable, version %s, database %s", version, w.Database())
	}
	for _, s := range e.target.Servers.All() {
		if err := s.Ping(ctx); err != nil {
			return fail("start it; its partitions wait in the log meanwhile, and reading answers errors", "%v", err)
		}
	}
	if err := e.target.Servers.Agree(ctx); err != nil {
		return fail("correct remote_servers, or --clickhouse-servers", "%v", err)
	}
	return ok("reachable, version %s, database %s over %d servers", version, w.Database(), len(e.target.Servers.All()))
}

func (e *examination) settings(ctx context.Context) result {
	if e.target.Warehouse == nil {
		return absent
	}
	var lazy []string
	const tables = `
SELECT name FROM system.tables
WHERE database = @db AND engine LIKE '%MergeTree' AND name IN ('events', 'pieces', 'usage_hourly', 'usage_monthly', 'elastic_lines', 'directory_events', 'dead_letters', 'ledger', 'owner')
  AND NOT (engine_full LIKE '%fsync_after_insert = 1%' AND engine_full LIKE '%fsync_part_directory = 1%')
ORDER BY name`
	for _, w := range e.target.Servers.All() {
		err := w.Query(ctx, tables, []any{warehouse.Named("db", w.Database())}, func(r warehouse.Rows) error {
			var name string
			defer func() { lazy = append(lazy, name) }()
			return r.Scan(&name)
		})
		if err != nil {
			return fail("see the check of clickhouse", "%v", err)
		}
	}
	if len(lazy) > 0 {
		return fail("ALTER TABLE … MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1", "tables without fsync: %s", strings.Join(lazy, ", "))
	}
	return ok("every target table is flushed to disk before an insert is answered")
}

func (e *examination) migrations(ctx context.Context) result {
	if e.target.Warehouse == nil {
		return absent
	}
	all, err := e.target.Servers.MigrationStatus(ctx)
	if err != nil {
		return fail("see the check of clickhouse", "%v", err)
	}
	var missing, edited []string
	for _, m := range all {
		if m.Landed == "" {
			missing = append(missing, m.Name)
		} else if !m.Applied() {
			edited = append(edited, m.Name)
		}
	}
	switch {
	case len(edited) > 0:
		return fail("use the program the database was migrated with, or a newer one", "migrations differ from the applied ones: %s", strings.Join(edited, ", "))
	case len(missing) > 0:
		return fail("countinghouse migrate", "not applied: %s", strings.Join(missing, ", "))
	}
	return ok("%d applied", len(all))
}

func (e *examination) detached(ctx context.Context) result {
	w := e.target.Warehouse
	if w == nil {
		return absent
	}
	parts, err := w.Detached(ctx)
	if err != nil {
		return fail("see the check of clickhouse", "%v", err)
	}
	if n := len(parts); n > 0 {
		return fail("countinghouse repair; the log has the rows (docs/RUNBOOK.md)", "%d damaged parts were set aside: rows are missing", n)
	}
	return ok("none")
}

// clock compares with ClickHouse's: events more than 5 minutes ahead of ingest's clock are refused.
func (e *examination) clock(ctx context.Context) result {
	w := e.target.Warehouse
	if w == nil {
		return absent
	}
	var at time.Time
	before := e.target.Now()
	err := w.Query(ctx, `SELECT now64(3, 'UTC')`, nil, func(r warehouse.Rows) error { return r.Scan(&at) })
	if err != nil {
		return fail("see the check of clickhouse", "%v", err)
	}
	after := e.target.Now()
	off := max(before.Sub(at), at.Sub(after), 0)
	if off > clockWarn {
		return warn("synchronise the clocks of all machines (NTP)", "ClickHouse's clock is off by %s", off.Round(time.Millisecond))
	}
	return ok("ClickHouse agrees within %s", after.Sub(before).Round(time.Millisecond)+off.Round(time.Millisecond))
}

// disk reckons as df does: what is kept for root is neither used nor free. A large disk that is nearly full has room
// for days; a small one has not.
func (e *examination) disk(context.Context) result {
	if e.target.Dir == "" {
		return absent
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(e.target.Dir, &fs); err != nil {
		return fail("correct --dir", "%s: %v", e.target.Dir, err)
	}
	taken := fs.Blocks - fs.Bfree
	used, free := taken*100/max(taken+fs.Bavail, 1), fs.Bavail*uint64(fs.Bsize)>>30
	detail := fmt.Sprintf("%d%% used, %d GiB free", used, free)
	switch {
	case used >= diskFail && free < diskRoom:
		return fail("make room: a full disk refuses events", "%s", detail)
	case used >= diskWarn:
		return warn("make room before it is full", "%s", detail)
	}
	return ok("%s", detail)
}

// services asks each for its readiness.
func (e *examination) services(ctx context.Context) {
	for _, name := range []string{"ingest", "aggregator", "reporter"} {
		admin := e.target.Admin[name]
		if admin == "" {
			continue
		}
		e.run(ctx, name, func(ctx context.Context) result {
			why, err := readiness(ctx, admin)
			if err != nil {
				return fail("see its log", "%v", err)
			}
			if strings.Contains(why, "[!]") {
				return warn("see its log and docs/RUNBOOK.md", "%s", why)
			}
			return ok("ready")
		})
	}
}

func readiness(ctx context.Context, admin string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, admin+"/readyz?verbose", nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }() // read below
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<10))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(oneLine(string(body)))
	}
	return string(body), nil
}
