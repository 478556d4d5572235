package rebuild_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/repair"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// Files of a part go bad while ClickHouse is dead; it puts the part aside without a word and counting goes on above it.
// That is noticed and named, by partition; a repair brings exactly these rows back, from the log, while events are
// counted; killed at any of its steps it is run again. Then nothing is missing and nothing is there twice, and the month
// that was closed before has its hash.
func TestRepair(t *testing.T) {
	f := fight.Begin(t, "REPAIR", rig.Options{})
	f.Moment()
	closeMonth(f)
	points := []string{"", "rebuild/linked:2", "rebuild/caught-up:1", "rebuild/exchanged:3", "rebuild/dropped:1"}
	tables := [][]string{{"events", "usage_hourly"}, {"pieces"}, {"directory_events", "ledger", "events"}, {"usage_monthly", "dead_letters"}, {"events"}}
	lost, linked := uint64(0), 0
	for i, at := range points[:fight.Rounds(1, len(points))] {
		want := damage(f, tables[i])
		found := looked(f)
		for _, section := range want {
			if !slices.ContainsFunc(found, func(d repair.Damage) bool { return d.Table+":"+d.Partition == section && d.Why != "" }) {
				t.Fatalf("damage of %v was not found: %v", want, found)
			}
		}
		if at != "" {
			if r, code, stderr := repaired(f, faultpoint.Variable+"="+at); code != -1 {
				t.Fatalf("not killed at %s: exit %d, %+v\n%s", at, code, r, stderr)
			}
		}
		r, code, stderr := repaired(f)
		if code != 0 || at == "" && !r.Exchanged || len(r.Left) > 0 || !r.MonthsOK || len(r.Months) != 1 {
			t.Fatalf("repair: exit %d, exchanged %v, left %v, months %+v\n%s", code, r.Exchanged, r.Left, r.Months, stderr)
		}
		for _, p := range r.Tables {
			if !p.Same() {
				lost += p.RowsAfter - p.Rows
			}
		}
		linked = max(linked, r.Linked)
		if left := looked(f); len(left) > 0 {
			t.Fatalf("after the repair there is damage: %v", left)
		}
		f.Recovered()
	}
	if lost == 0 || linked == 0 {
		t.Errorf("%d rows came back, %d partitions were taken as they were: the test tests nothing", lost, linked)
	}
	f.Note = fmt.Sprintf(" came_back=%d linked=%d", lost, linked)
	f.End()
}

func repaired(f *fight.Fight, env ...string) (r repair.Result, code int, stderr string) {
	f.T.Helper()
	ctx, cancel := context.WithTimeout(f.T.Context(), toolWait)
	defer cancel()
	code, stderr = said(f, verb(ctx, f, "repair", env), &r)
	return r, code, stderr
}

// looked is what a dry run finds.
func looked(f *fight.Fight) []repair.Damage {
	f.T.Helper()
	ctx, cancel := context.WithTimeout(f.T.Context(), toolWait)
	defer cancel()
	var found []repair.Damage
	code, stderr := said(f, verb(ctx, f, "repair", nil, "--dry-run"), &found)
	if code != 0 {
		f.T.Fatalf("repair --dry-run: exit %d\n%s", code, stderr)
	}
	return found
}

// damage cuts the files of the largest part of each table while ClickHouse is dead, and answers which partitions they
// are of.
func damage(f *fight.Fight, tables []string) (sections []string) {
	f.T.Helper()
	rows, err := f.Rig.Warehouse().Rows(f.T.Context(), `SELECT table, argMax(partition_id, rows), argMax(path, rows), max(rows) FROM system.parts
		WHERE active AND database = '`+rig.Database+`' AND table IN ('`+strings.Join(tables, "', '")+`') GROUP BY table ORDER BY table`)
	if err != nil || len(rows) == 0 {
		f.T.Fatalf("parts of %v: %v, %v", tables, rows, err)
	}
	back := f.Rig.ClickHouse.Back()
	f.Rig.ClickHouse.Interrupt(func() {
		for _, r := range rows {
			for _, name := range []string{"columns.txt", "checksums.txt"} {
				if err := os.Truncate(filepath.Join(r[2], name), 1); err != nil && !os.IsNotExist(err) {
					f.T.Errorf("damage %s: %v", r[2], err)
				}
			}
		}
	})
	f.Await(f.Rig.ClickHouse, back)
	f.Recovered()
	aside, err := f.Rig.Warehouse().Rows(f.T.Context(), "SELECT DISTINCT table, partition_id FROM system.detached_parts WHERE database = '"+rig.Database+"' ORDER BY table")
	if err != nil || len(aside) == 0 {
		f.T.Fatalf("damaged %v, put aside %v, %v", rows, aside, err) // it was merged meanwhile, or read all the same
	}
	for _, a := range aside {
		sections = append(sections, a[0]+":"+a[1])
	}
	return sections
}

// closeMonth closes the month before this one, for a tenant.
func closeMonth(f *fight.Fight) {
	f.T.Helper()
	tenant := rig.Tenants()[0]
	_, url := f.Rig.StartReporter("--months-close-day", "0", "--months-restate-delay", "1h")
	key := f.Rig.Key(tenant, "months:close")
	now := time.Now().UTC()
	month := time.Date(now.Year(), now.Month()-1, 1, 0, 0, 0, 0, time.UTC).Format("2006-01")
	var said string
	f.Rig.Until("a month is closed", rig.SettleWait, func(ctx context.Context) bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/v1/months/"+month+"/close", nil)
		if err != nil {
			f.T.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			said = err.Error()
			return false
		}
		defer res.Body.Close()
		var text bytes.Buffer
		_, _ = text.ReadFrom(res.Body) // it is for an error
		said = text.String()
		return res.StatusCode == http.StatusOK && json.Valid(text.Bytes())
	})
	f.T.Logf("closed: %s", said)
}
