package audit

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countinghouse/countinghouse/internal/eventlog"
)

// segment is the run of sequences that one shard answers for: an incarnation begins behind the longest
// common prefix of its stream and the one before, so each ends where the next begins.
type segment struct {
	shard
	from, to uint64
}

// partitions compares log, ledger and raw rows of every partition.
func (r *run) partitions(ctx context.Context) error {
	logs := make([][]segment, r.log.Partitions())
	infos := make([]eventlog.Info, len(logs))
	for p := range logs {
		var err error
		if infos[p], err = r.info(ctx, p); err != nil {
			return err
		}
		logs[p] = r.segments(p, infos[p])
		for _, s := range logs[p] {
			r.total += s.to - s.from + 1
		}
	}
	for p, segments := range logs {
		if len(segments) == 0 {
			r.reports = append(r.reports, ShardReport{Shard: uint16(p), Partition: uint16(p), LogSeq: infos[p].Last, Pending: infos[p].Last})
			continue
		}
		if err := r.comparePartition(ctx, p, segments, infos[p]); err != nil {
			return fmt.Errorf("partition %d: %w", p, err)
		}
	}
	return nil
}

// info asks the log how far it is. One that ends before what was counted may be a leader that catches up.
func (r *run) info(ctx context.Context, partition int) (eventlog.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, queryWait)
	defer cancel()
	var counted uint64
	for _, s := range r.shards {
		if s.partition() == partition {
			counted = s.progress // of the newest incarnation: they are in order
		}
	}
	deadline := time.Now().Add(behindWait)
	for {
		info, err := r.log.Info(ctx, partition)
		if err != nil {
			return info, fmt.Errorf("ask the log: %w", err)
		}
		if info.Last >= counted || time.Now().After(deadline) {
			return info, nil
		}
		if err := pause(ctx, settlePoll); err != nil {
			return info, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// segments divides a partition's log among its incarnations, and names what was counted of streams that
// are no more.
func (r *run) segments(partition int, info eventlog.Info) []segment {
	var all []segment
	for _, s := range r.shards {
		if s.partition() != partition {
			continue
		}
		seg := segment{shard: s, from: s.first, to: s.progress}
		if len(all) == 0 {
			seg.from = 1
		} else if last := &all[len(all)-1]; last.to >= s.first {
			r.found.add(Difference{Check: CheckLog, Shard: last.number, Seq: s.first, SeqTo: last.to,
				What: "counted of a stream that was recreated since; the log no longer holds it"})
			last.to = s.first - 1
		} else {
			last.to = s.first - 1 // rows that are missing in between are found as such
		}
		all = append(all, seg)
	}
	if len(all) == 0 {
		return nil
	}
	if last := &all[len(all)-1]; last.to > info.Last {
		r.found.add(Difference{Check: CheckLog, Shard: last.number, Seq: info.Last + 1, SeqTo: last.to,
			What: "counted, but the log ends before it"})
		last.to = info.Last
	}
	kept := all[:0]
	for _, s := range all {
		if s.from <= s.to {
			kept = append(kept, s)
		}
	}
	return kept
}

// walk is the state of comparing one partition.
type walk struct {
	*run
	segment
	messages *eventlog.Reader
	reader   *reader
	printer  *printer
	tables   tables
	logged   int64 // logged_at of the previous message of the shard
	gapTo    uint64
	doubts   []doubt
	doubted  int // events in doubts
	report   ShardReport
}

func (r *run) comparePartition(ctx context.Context, partition int, segments []segment, info eventlog.Info) error {
	messages, err := r.log.Read(partition, segments[0].from, eventlog.ReadOptions{Created: info.Created})
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer messages.Close()
	for _, s := range segments {
		w := &walk{run: r, segment: s, messages: messages, reader: newReader(), printer: &printer{}}
		w.report = ShardReport{
			Shard: s.number, Partition: uint16(partition), Incarnation: s.number >> incarnationShift,
			From: s.from, To: s.to, LogSeq: info.Last, Ended: s.ended,
		}
		if !s.ended && info.Last > s.to {
			w.report.Pending = info.Last - s.to
		}
		for from := s.from; from <= s.to; from += rangeMessages {
			if err := w.compare(ctx, from, min(from+rangeMessages-1, s.to)); err != nil {
				return err
			}
		}
		w.report.CountedTo = instantText(w.logged)
		r.reports = append(r.reports, w.report)
	}
	return nil
}

// compare walks the log and the tables from one sequence to another.
func (w *walk) compare(ctx context.Context, from, to uint64) error {
	if err := w.load(ctx, from, to); err != nil {
		return err
	}
	for seq := from; seq <= to; seq++ {
		if seq > w.gapTo {
			m, gap, err := w.messages.Next(ctx)
			if err != nil {
				return fmt.Errorf("read the log at %d: %w", seq, err)
			}
			if gap == nil {
				if err := w.message(ctx, w.reader.read(m, w.logged)); err != nil {
					return err
				}
				w.step()
				continue
			}
			w.gapTo = gap.To
		}
		w.missing(seq)
		w.step()
	}
	return w.resolve(ctx)
}

func (w *walk) step() {
	w.done++
	if w.Progress != nil && (w.done%1024 == 0 || w.done == w.total) {
		w.Progress(w.done, w.total)
	}
}

// missing is a sequence that the log does not have.
func (w *walk) missing(seq uint64) {
	w.report.Missing++
	rows := w.tables.take(seq)
	d := Difference{Check: CheckLog, Shard: w.number, Seq: seq, What: "missing from the log when it was counted"}
	switch l := rows.ledger; {
	case len(l) == 0:
		d.What = "missing from the log and from the ledger"
	case !l[0].missing:
		d.Tenant, d.What = l[0].tenant, "counted, but no longer in the log"
	case rows.raw.rows+rows.raw.minus+rows.dead.rows > 0:
		d.What = "rows of a sequence that the log does not have"
	}
	w.found.add(d)
}

// message compares one message with everything the tables have at its sequence.
func (w *walk) message(ctx context.Context, m *message) error {
	rows := w.tables.take(m.seq)
	m.spoil(w.tables.poison[m.seq], rows.ledger)
	w.logged = m.logged
	w.report.Messages++
	w.report.LastHash = hex.EncodeToString(m.hash[:])
	if w.Tenant != "" && m.tenant != w.Tenant {
		w.foreign(m, rows)
		return nil
	}
	l := w.ledger(m, rows.ledger)
	if w.plain(m, l, rows) {
		return nil
	}
	w.reader.keep(m)
	w.doubts = append(w.doubts, doubt{message: m, ledger: l, rows: rows})
	if w.doubted += len(m.events) + 1; w.doubted >= doubtMax {
		return w.resolve(ctx)
	}
	return nil
}

// foreign is another tenant's message: this tenant has nothing at its sequence.
func (w *walk) foreign(m *message, rows found) {
	if rows.raw.rows+rows.pieces.rows+rows.dead.rows+rows.duplicates.rows > 0 {
		w.found.add(Difference{Check: CheckRaw, Tenant: w.Tenant, Shard: w.number, Seq: m.seq, What: "rows at a message of another tenant"})
	}
}

// ledger compares a message with its ledger row and answers the row, or nil.
func (w *walk) ledger(m *message, rows []ledgerRow) *ledgerRow {
	d := Difference{Check: CheckLedger, Tenant: m.tenant, Shard: w.number, Seq: m.seq}
	if len(rows) == 0 {
		d.What = "no ledger row"
		w.found.add(d)
		return nil
	}
	differ := func(what, want, have string) {
		d.What, d.Want, d.Have = what, want, have
		w.found.add(d)
	}
	if len(rows) > 1 {
		differ("ledger rows", "1", strconv.Itoa(len(rows)))
	}
	l := &rows[0]
	if l.missing {
		differ("missing", "0: the log has the message", "1")
	}
	if l.tenant != m.tenant {
		differ("tenant", m.tenant, l.tenant)
	}
	if l.hash != m.hash {
		differ("hash of the message", hex.EncodeToString(m.hash[:]), hex.EncodeToString(l.hash[:]))
	}
	if l.logged != m.logged {
		differ("logged_at", instantText(m.logged), instantText(l.logged))
	}
	if l.accepted != m.accepted() {
		differ("accepted", strconv.Itoa(int(m.accepted())), strconv.Itoa(int(l.accepted)))
	}
	if sum := l.stored + l.duplicate + l.conflict + l.quarantined; l.accepted != sum {
		differ("accepted = stored + duplicate + conflict + quarantined", strconv.Itoa(int(l.accepted)), strconv.Itoa(int(sum)))
	}
	return l
}

// plain settles the usual message at once: all of it was stored, but for what cannot be read, and the
// sums of the fingerprints agree. Whether a stored event should have been a duplicate is seen where
// identities are counted (identities.go).
func (w *walk) plain(m *message, l *ledgerRow, rows found) bool {
	if l == nil || l.duplicate > 0 || l.conflict > 0 || l.quarantined != uint32(len(m.rejects)) || l.stored != uint32(len(m.events)) {
		return false
	}
	var want expectation
	for i := range m.events {
		want.store(w.run, w.printer, m.tenant, &m.events[i])
	}
	for _, idx := range m.rejects {
		want.dead.add(w.printer.dead(idx, false))
	}
	if !want.equals(rows) || w.wholeTime() && rows.raw.minus != uint64(l.voided) {
		return false
	}
	for i := range m.events {
		if e := &m.events[i]; w.inMonths(e.at) {
			t := w.months.of(m.tenant, e.at)
			t.Accepted++
			t.Stored++
		}
	}
	w.rejected(m)
	return true
}

// rejected books what could not be read in the month in which it was logged.
func (w *walk) rejected(m *message) {
	if len(m.rejects) > 0 && w.inMonths(m.logged) {
		t := w.months.of(m.tenant, m.logged)
		t.Accepted += uint64(len(m.rejects))
		t.Quarantined += uint64(len(m.rejects))
	}
}

// expectation is what the tables must hold of a message.
type expectation struct {
	raw, pieces, dead, duplicates digest
}

// store expects an event's row and pieces.
func (x *expectation) store(r *run, p *printer, tenant string, e *event) {
	if r.inMonths(e.at) {
		x.raw.add(p.event(tenant, e))
	}
	if len(e.pieces) < 2 {
		return
	}
	for n := range e.pieces {
		if r.inMonths(e.pieces[n].Start.Millis()) {
			x.pieces.add(p.piece(tenant, e, n))
		}
	}
}

func (x *expectation) equals(have found) bool {
	return x.raw.same(have.raw) && x.pieces.same(have.pieces) && x.dead.same(have.dead) && x.duplicates.same(have.duplicates)
}

// load reads the tables' side of a range, all tables at once.
func (w *walk) load(ctx context.Context, from, to uint64) error {
	w.tables = tables{}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { w.tables.ledger, err = w.readLedger(ctx, from, to); return err })
	for _, t := range []struct {
		sql    string
		column string
		into   *digests
	}{
		{rawPrints, "at", &w.tables.raw},
		{piecePrints, "at", &w.tables.pieces},
		{deadPrints, "", &w.tables.dead},
		{duplicatePrints, "", &w.tables.duplicates},
	} {
		g.Go(func() (err error) { t.into.rows, err = w.readPrints(ctx, t.sql, t.column, from, to); return err })
	}
	g.Go(func() (err error) { w.tables.poison, err = w.readPoison(ctx, from, to); return err })
	return g.Wait()
}
