package rebuild_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/rebuild"
	"github.com/countinghouse/countinghouse/internal/repair"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// Files of a part go bad while ClickHouse is dead; it puts the part aside without a word and counting goes on above it.
// That is noticed and named, by partition; a repair brings exactly these rows back, from the log, while events are
// counted; killed at any of its steps it is run again. One that is asked for too little exchanges nothing. Then nothing is
// missing and nothing is there twice, and the month that was closed before has its hash.
func TestRepair(t *testing.T) {
	f := fight.Begin(t, "REPAIR", rig.Options{FlushWait: flushWait})
	f.Gently()
	f.Moment()
	_, url := f.Rig.StartReporter("--months-close-day", "0", "--months-restate-delay", "1h")
	f.CloseMonths(url, f.Rig.Key(rig.Tenants()[0], "months:close"))
	f.Check() // the load has ended
	points := []string{"", "rebuild/exchanged:3", "rebuild/linked:2", "rebuild/caught-up:1", "rebuild/dropped:1"}
	tables := [][]string{{"events", "usage_hourly"}, {"events"}, {"pieces"}, {"ledger", "events"}, {"usage_monthly", "dead_letters"}}
	lost, linked := uint64(0), 0
	for i, at := range points[:fight.Rounds(2, len(points))] {
		if i == 1 {
			refused(f)
			f.Load = f.Rig.StartLoad(f.Seed + 1) // from now on rows are counted without those that were lost
			f.Gently()
		}
		want := damage(f, tables[i])
		found := looked(f)
		for _, section := range want {
			if !slices.ContainsFunc(found, func(d repair.Damage) bool { return d.Table+":"+d.Partition == section && d.Why != "" }) {
				t.Fatalf("damage of %v was not found: %v", want, found)
			}
		}
		if at != "" {
			if r, code, stderr := repairing(f, []string{faultpoint.Variable + "=" + at}); code != -1 {
				t.Fatalf("not killed at %s: exit %d, %+v\n%s", at, code, r, stderr)
			}
		}
		r, code, stderr := repaired(f)
		if code != 0 || at == "" && !r.Exchanged || len(r.Left) > 0 || !r.MonthsOK || len(r.Months) == 0 {
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
		if i > 0 {
			f.Recovered()
		}
	}
	if lost == 0 || linked == 0 {
		t.Errorf("%d rows came back, %d partitions were taken as they were: the test tests nothing", lost, linked)
	}
	f.Note = fmt.Sprintf(" came_back=%d linked=%d", lost, linked)
	f.End()
}

// refused lets rows vanish where the tables do not show it, and names another partition: what was made is not what the
// log says, and is not exchanged. The right name brings them back.
func refused(f *fight.Fight) {
	f.T.Helper()
	ch, ctx := f.Rig.Warehouse(), f.T.Context()
	letters, err := ch.Rows(ctx, "SELECT _partition_id, intDiv(min(seq) + max(seq), 2) FROM "+rig.Database+".dead_letters GROUP BY _partition_id ORDER BY count() DESC")
	if err != nil || len(letters) == 0 {
		f.T.Fatalf("dead letters: %v, %v", letters, err)
	}
	partition, middle := letters[0][0], letters[0][1] // the last row stays, and with it how far the partition goes
	if _, err := ch.Rows(ctx, "ALTER TABLE "+rig.Database+".dead_letters DELETE WHERE _partition_id = '"+partition+"' AND seq < "+middle+" SETTINGS mutations_sync = 2"); err != nil {
		f.T.Fatal(err)
	}
	was := events(f)
	r, code, stderr := repaired(f, "--partition", "directory_events:all")
	if code != 1 || r.Exchanged || r.AuditOK || events(f) != was || !strings.Contains(stderr, rebuild.ErrDiffer.Error()) {
		f.T.Fatalf("another partition was named: exit %d, exchanged %v, audit %v\n%s", code, r.Exchanged, r.AuditOK, stderr)
	}
	if r, code, stderr = repaired(f, "--partition", "dead_letters:"+partition); code != 0 || !r.Exchanged || !r.AuditOK {
		f.T.Fatalf("repair: exit %d, exchanged %v, audit %v\n%s", code, r.Exchanged, r.AuditOK, stderr)
	}
}

func repaired(f *fight.Fight, args ...string) (r repair.Result, code int, stderr string) {
	f.T.Helper()
	return repairing(f, nil, args...)
}

// repairing runs `countinghouse repair`; env arms a crash point.
func repairing(f *fight.Fight, env []string, args ...string) (r repair.Result, code int, stderr string) {
	f.T.Helper()
	few := []string{"--questions", strconv.Itoa(fight.Rounds(6, rebuild.QuestionsUsual))} // TestRebuildUnderLoad asks them all
	code, stderr = f.Tool("repair", env, &r, append(few, args...)...)
	return r, code, stderr
}

// looked is what a dry run finds.
func looked(f *fight.Fight) []repair.Damage {
	f.T.Helper()
	var found []repair.Damage
	code, stderr := f.Tool("repair", nil, &found, "--dry-run")
	if code != 0 {
		f.T.Fatalf("repair --dry-run: exit %d\n%s", code, stderr)
	}
	return found
}

// damage cuts the files of the largest part of each table while ClickHouse is dead, and answers which partitions they
// are of.
func damage(f *fight.Fight, tables []string) (sections []string) {
	f.T.Helper()
	for _, table := range tables { // a part that is merged meanwhile is nobody's loss; its next life merges again
		said, err := f.Rig.Warehouse().Stream(f.T.Context(), "SYSTEM STOP MERGES "+rig.Database+"."+table)
		if err != nil {
			f.T.Fatal(err)
		}
		_ = said.Close() // it says nothing
	}
	f.Rig.Until("nothing is merged", rig.SettleWait, func(ctx context.Context) bool {
		n, err := f.Rig.Warehouse().Numbers(ctx, "SELECT count() FROM system.merges WHERE database = '"+rig.Database+"' AND table IN ('"+strings.Join(tables, "', '")+"')")
		return err == nil && n[0] == 0
	})
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
	f.Rig.Until("ClickHouse answers", rig.SettleWait, func(ctx context.Context) bool {
		_, err := f.Rig.Counted(ctx)
		return err == nil
	})
	aside, err := f.Rig.Warehouse().Rows(f.T.Context(), "SELECT DISTINCT table, partition_id FROM system.detached_parts WHERE database = '"+rig.Database+"' ORDER BY table")
	if err != nil || len(aside) == 0 {
		f.T.Fatalf("damaged %v, put aside %v, %v", rows, aside, err) // it was merged meanwhile, or read all the same
	}
	for _, a := range aside {
		sections = append(sections, a[0]+":"+a[1])
	}
	return sections
}
