package logfaults_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/oracle"
	"github.com/countinghouse/countinghouse/test/rig"
)

// damage is a way for the files of the log to go bad while the server is down.
type damage struct {
	name   string
	do     func(f *fight.Fight, files string, from int64) string // beyond so many bytes of all blocks
	kill   bool                                                  // the server is killed; else it ends in order, and trusts its index when it is back
	counts bool                                                  // an aggregator lives, so that the damage is below its progress; else above
	seen   string
}

// short is how many of damages the short form picks from; those behind take the half minute that a log
// which went back is waited for.
const short = 7

// What sees it.
const (
	byAggregator = "aggregator" // its metric and /readyz
	byIngest     = "ingest"     // the same of ingest, from its receipts
	byAudit      = "audit"      // nothing reads what is counted but the audit
	byNobody     = ""           // no damage: the server makes the file again
)

func damages() []damage {
	return []damage{
		{name: "a bit, not yet read", do: flipBit, seen: byAggregator},
		{name: "a bit after a kill, not yet read", do: flipBit, kill: true, seen: byIngest},
		{name: "a bit, counted", do: flipBit, counts: true, seen: byAudit},
		{name: "the end, counted", do: cutEnd, counts: true, seen: byAggregator},
		{name: "the end after a kill, not yet read", do: cutEnd, kill: true, seen: byIngest},
		{name: "the index", do: removeIndex, counts: true, seen: byNobody},
		{name: "the end, not yet read", do: cutEnd, seen: byAggregator},
		{name: "a bit after a kill, counted", do: flipBit, kill: true, counts: true, seen: byAggregator},
		{name: "the end after a kill, counted", do: cutEnd, kill: true, counts: true, seen: byAggregator},
		{name: "a bit and the index, counted", do: both, counts: true, seen: byAggregator},
	}
}

// F05: a file of the log is damaged while the server is down. The damage is noticed and named, what is left
// is counted, and when the producers have sent everything again every event counts once.
func TestF05Damage(t *testing.T) {
	t.Parallel()
	all := damages()
	if !fight.Soak { // one that each of the two must see, and one more
		rnd := rand.New(rand.NewPCG(fight.Seed(), 0))
		all = []damage{all[0], all[1], all[2+rnd.IntN(short-2)]}
	}
	for range fight.Rounds(1, 3) {
		for _, d := range all {
			t.Run(d.name, func(t *testing.T) {
				t.Parallel()
				d.test(t)
			})
		}
	}
}

func (d *damage) test(t *testing.T) {
	f := fight.Begin(t, "F05", rig.Options{Remember: true, NoConflicts: true})
	f.Moment()
	held := make(chan struct{})
	var from int64
	if !d.counts {
		f.Rig.Aggregators[0].Interrupt(func() { <-held })
		from = written(f) // what was counted is before that
	}
	more := f.Load.Requests() + 150
	f.Rig.Until("there is something to damage", rig.SettleWait, func(context.Context) bool { return f.Load.Requests() > more })
	if err := f.Load.Stop(); err != nil {
		t.Fatal(err)
	}
	if d.counts {
		f.Rig.Settle()
	}
	what := d.hurt(f, from)
	if !d.counts && d.kill { // nobody but ingest knows, and it must be told before anyone reads
		next := f.Rig.StartLoad(f.Seed + 1)
		d.noticed(f)
		if err := next.Stop(); err != nil {
			t.Fatal(err)
		}
		close(held)
	} else {
		if !d.counts {
			close(held)
		}
		next := f.Rig.StartLoad(f.Seed + 1)
		begun := next.Requests()
		f.Rig.Until("events are taken again", rig.SettleWait, func(context.Context) bool { return next.Requests() > begun+20 })
		d.noticed(f)
		if err := next.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	f.Rig.Settle()
	lost := whole(f, false)
	named := d.audited(f)
	requests := f.Load.Replay()
	f.Rig.Settle()
	after := whole(f, true)
	if f.T.Failed() {
		return
	}
	fmt.Printf("F05 PASS seed=%d damage=%q seen=%q acked=%d lost=%d replayed=%d stored=%d dup=%d audit=%q: %s\n",
		f.Seed, d.name, d.seen, after.Acked, lost.Lost, requests, after.Stored, after.Duplicate, named, what)
}

// hurt damages the files between two lives of the server.
func (d *damage) hurt(f *fight.Fight, from int64) (what string) {
	f.T.Helper()
	part := f.Rig.NATS
	back := part.Back()
	between := func() { what = d.do(f, f.Rig.NATSFiles(usageStream), from) }
	if d.kill {
		part.Interrupt(between)
	} else if err := part.Halt(localstack.StopGrace, between); err != nil {
		f.T.Log(err) // NATS; its files are what they are
	}
	f.Await(part, back)
	f.T.Logf("%s: %s", d.name, what)
	return what
}

// noticed waits for the metric and for /readyz.
func (d *damage) noticed(f *fight.Fight) {
	f.T.Helper()
	ingest, aggregators := f.Rig.Admin()
	part, admin, metric := f.Rig.Aggregators[0], aggregators[0], "countinghouse_log_lost_messages"
	switch d.seen {
	case byIngest:
		part, admin, metric = f.Rig.Ingest, ingest, "countinghouse_ingest_log_lost_messages_total"
	case byAudit, byNobody:
		return
	}
	said := ""
	took := f.Rig.Until("the damage is noticed by the "+d.seen, rig.SettleWait, func(ctx context.Context) bool {
		n, err := part.Metric(ctx, metric)
		if err != nil || n == 0 {
			return false
		}
		_, body := ask(ctx, f.T, http.MethodGet, admin+"/readyz?verbose", "", "")
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "[!] log") && strings.Contains(line, "sequences") {
				said = strings.TrimSpace(line)
			}
		}
		return said != ""
	})
	f.T.Logf("noticed after %s: %s", took, said)
}

// whole checks the warehouse. What the log lost is lost until it was sent again, and its ledger tells of
// it; everything else must hold, before and after.
func whole(f *fight.Fight, repaired bool) oracle.Result {
	f.T.Helper()
	result, err := f.Load.Oracle().Check(f.T.Context(), f.Rig.Warehouse(), rig.Database)
	if err != nil {
		f.T.Fatal(err)
	}
	wrong := slices.DeleteFunc(slices.Clone(result.Violations), func(v string) bool {
		return strings.HasPrefix(v, "A: ") || !repaired && strings.HasPrefix(v, "D: ") || strings.Contains(v, "were acknowledged, the ledger accepted")
	})
	if len(wrong) > 0 || repaired && result.Lost > 0 || result.Doubled > 0 || result.Phantom > 0 {
		f.T.Errorf("seed=%d, sent again: %t: lost %d, doubled %d, phantom %d: %s", f.Seed, repaired, result.Lost, result.Doubled, result.Phantom, strings.Join(wrong, "\n"))
	}
	return result
}

// audited asks the audit, which must name a place in the log unless nothing was lost that was counted.
func (d *damage) audited(f *fight.Fight) string {
	f.T.Helper()
	ctx, cancel := context.WithTimeout(f.T.Context(), rig.SettleWait)
	defer cancel()
	c, err := f.Rig.Audit(ctx)
	if err != nil {
		f.T.Fatalf("audit: %v", err)
	}
	f.T.Logf("audit: ok %t, %d differences: %.3v", c.OK, c.DifferenceCount, c.Differences)
	silent := d.seen == byNobody || d.seen == byIngest // above progress: the log never was what it is not now
	if c.OK != silent {
		f.T.Errorf("after %s the audit says ok=%t", d.name, c.OK)
	}
	if c.OK {
		return ""
	}
	first := c.Differences[0]
	return fmt.Sprintf("%s %d-%d", first.Check, first.Seq, max(first.Seq, first.SeqTo))
}

// block is a file of the log.
type block struct {
	name string
	size int64
}

// blocks are the files of the log, in order.
func blocks(files string) ([]block, error) {
	names, err := filepath.Glob(filepath.Join(files, "*.blk"))
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("no blocks in %s: %w", files, err)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(len(a)-len(b), strings.Compare(a, b)) // 9.blk is before 10.blk
	})
	var all []block
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		all = append(all, block{name, info.Size()})
	}
	return all, nil
}

// written is how many bytes the log has.
func written(f *fight.Fight) (bytes int64) {
	f.T.Helper()
	all, err := blocks(f.Rig.NATSFiles(usageStream))
	if err != nil {
		f.T.Fatal(err)
	}
	for _, b := range all {
		bytes += b.size
	}
	return bytes
}

// pick is a place in the log, beyond from: in the third quarter of what is there, which was stored late; but not so near
// the end that only messages of producers that do without ingest are lost, of which nobody keeps a receipt.
func pick(f *fight.Fight, files string, from int64) (b block, at int64, err error) {
	all, err := blocks(files)
	if err != nil {
		return b, 0, err
	}
	end := int64(0)
	for _, b := range all {
		end += b.size
	}
	at = from + (end-from)/2 + f.Rnd.Int64N((end-from)/4)
	for _, b = range all {
		if at < b.size {
			break
		}
		at -= b.size
	}
	return b, at, nil
}

func flipBit(f *fight.Fight, files string, from int64) string {
	b, at, err := pick(f, files, from)
	if err != nil {
		f.T.Error(err)
		return ""
	}
	text, err := os.ReadFile(b.name)
	if err != nil {
		f.T.Error(err)
		return ""
	}
	bit := f.Rnd.IntN(8)
	text[at] ^= 1 << bit
	if err := os.WriteFile(b.name, text, 0o600); err != nil {
		f.T.Error(err)
	}
	return fmt.Sprintf("bit %d of byte %d of %d of %s", bit, at, len(text), filepath.Base(b.name))
}

// cutEnd takes away the end of the last block.
func cutEnd(f *fight.Fight, files string, from int64) string {
	b, at, err := pick(f, files, from)
	all, errAll := blocks(files)
	if err := errors.Join(err, errAll); err != nil {
		f.T.Error(err)
		return ""
	}
	if last := all[len(all)-1]; last != b { // all of it is beyond from
		b, at = last, last.size/2
	}
	if err := os.Truncate(b.name, at); err != nil {
		f.T.Error(err)
	}
	return fmt.Sprintf("the last %d of %d bytes of %s", b.size-at, b.size, filepath.Base(b.name))
}

func removeIndex(f *fight.Fight, files string, _ int64) string {
	if err := os.Remove(filepath.Join(files, "index.db")); err != nil {
		f.T.Error(err)
	}
	return "index.db"
}

func both(f *fight.Fight, files string, from int64) string {
	return flipBit(f, files, from) + " and " + removeIndex(f, files, from)
}
