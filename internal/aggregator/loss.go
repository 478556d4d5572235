package aggregator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/eventlog"
)

// loss is what a partition of the log is known to have lost. It is shown until the process ends: what was
// lost does not come back, and what the warehouse booked as missing stays in the ledger, where every
// comparison of the tables finds it again.
type loss struct {
	gaps    []eventlog.Gap // apart from each other, in order
	deleted uint64         // as the server counted them when they were listed
	seen    uint64         // the highest last sequence
	shorter time.Time      // since when the log ends before it; zero: it does not
}

// lossesMax bounds what is named; the metric counts everything.
const lossesMax = 20

// lost looks for what the log had and has no more. The server counts holes by itself, and nothing may be
// deleted, so that a hole is damage, counted already or not; and a log that is shorter than it was has
// lost its end. A new leader may only be catching up: it gets as long as a log that went back.
func (p *partition) lost(ctx context.Context, info eventlog.Info) {
	l := &p.loss
	if info.Deleted != l.deleted {
		gaps, err := p.log.Deleted(ctx, int(p.id))
		if err != nil {
			return // asked again in a moment
		}
		l.deleted = info.Deleted
		for _, g := range gaps {
			p.lose(g)
		}
	}
	switch {
	case info.Last >= l.seen:
		l.seen, l.shorter = info.Last, time.Time{}
	case l.shorter.IsZero():
		l.shorter = time.Now()
		fallthrough
	default:
		if info.Replicas < 2 || time.Since(l.shorter) > behindWait {
			p.lose(eventlog.Gap{From: info.Last + 1, To: l.seen})
			l.seen, l.shorter = info.Last, time.Time{}
		}
	}
}

// lose raises the alarm for a run of sequences, once. What is known of two sides, the reader and the server's
// count, may overlap.
func (p *partition) lose(gap eventlog.Gap) {
	p.losing.Lock()
	defer p.losing.Unlock()
	if !p.loss.add(gap) {
		return
	}
	p.zap.Error("the log has lost messages; have what was sent then sent again; see the runbook: log-gap",
		zap.Uint64("from", gap.From), zap.Uint64("to", gap.To))
	p.metrics.LogLost.WithLabelValues(strconv.Itoa(int(p.id))).Set(float64(p.loss.messages()))
}

// add joins a run to those that are known; false if all of it was.
func (l *loss) add(gap eventlog.Gap) bool {
	from, _ := slices.BinarySearchFunc(l.gaps, gap.From, func(g eventlog.Gap, seq uint64) int { return cmp.Compare(g.To+1, seq) })
	to := from
	for ; to < len(l.gaps) && l.gaps[to].From <= gap.To+1; to++ {
		if l.gaps[to].From <= gap.From && gap.To <= l.gaps[to].To {
			return false
		}
		gap.From, gap.To = min(gap.From, l.gaps[to].From), max(gap.To, l.gaps[to].To)
	}
	l.gaps = slices.Replace(l.gaps, from, to, gap)
	return true
}

func (l *loss) messages() (n uint64) {
	for _, g := range l.gaps {
		n += g.To - g.From + 1
	}
	return n
}

// lossError says what is known to be lost.
func (p *partition) lossError() error {
	p.losing.Lock()
	defer p.losing.Unlock()
	if len(p.loss.gaps) == 0 {
		return nil
	}
	var named []string
	for _, g := range p.loss.gaps[:min(len(p.loss.gaps), lossesMax)] {
		named = append(named, fmt.Sprintf("%d-%d", g.From, g.To))
	}
	return fmt.Errorf("partition %d of the log has lost %d messages, run countinghouse audit: sequences %s", p.id, p.loss.messages(), strings.Join(named, ", "))
}

// losses says what the log is known to have lost.
func (a *App) losses() error {
	for _, p := range a.partitions {
		if err := p.lossError(); err != nil {
			return err
		}
	}
	return nil
}
