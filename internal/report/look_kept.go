package report

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"math/big"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

const (
	// sumsKept bounds the cells kept over all tenants, about 400 bytes each: 80 MB. As many samples of gauges are kept.
	sumsKept = 200_000
	// sumsEach bounds those of one answer: of more, reading them is not what takes its time.
	sumsEach = 20_000
)

// kept answers a question about the watermark of this moment from the cells that were counted for the same question, if
// nothing that they follow from has changed since: the directory that the question is asked with, the positions of the log
// that the tables had reached before they were read, and how often tables have changed places, as a repair makes them, which
// may change what stands below a position. Everything else is counted anew; closed versions and files always are.
func (r *Reports) kept(ctx context.Context, q question, road string, count func(context.Context, question) (*cells, error)) (*cells, error) {
	if !q.keeps() {
		return count(ctx, q)
	}
	name := q.name(road)
	if known := r.sumCells.get(name); known != nil {
		return known.copy(q), nil
	}
	c, err := count(ctx, q)
	if err == nil && len(c.cells) <= sumsEach {
		r.sumCells.put(name, c.copy(question{}), 1+len(c.cells))
	}
	return c, err
}

// keeps reports whether it is known what the answer follows from.
func (q *question) keeps() bool { return q.cut.Now && q.cut.tables != 0 && q.directory != "" }

// name tells questions apart with what their answers follow from.
func (q *question) name(road string) string {
	h := sha256.New()
	shards, seqs := warehouse.Positions(q.cut.Shards)
	fmt.Fprintf(h, "%s %q %d %d %s %d %d %d ", road, q.directory, q.from, q.to, q.window, q.cut.tables, shards, seqs)
	fmt.Fprintf(h, "%#v %#v %#v %#v %t %t %d", q.meters, q.notMeters, q.accounts, q.by, q.unique, q.latest, q.rowsMax)
	return q.tenant + " " + string(h.Sum(nil))
}

// copy is the same cells of another question's own: who asks may add to them.
func (c *cells) copy(q question) *cells {
	own := &cells{q: q, number: make(map[key]int, len(c.kinds)), cells: make(map[cell]*measure, len(c.cells))}
	for k, m := range c.all() {
		own.put(k, m.copy())
	}
	return own
}

// copy shares with m what merge does not change.
func (m *measure) copy() *measure {
	own := *m
	if m.sum != nil {
		own.sum = new(big.Int).Set(m.sum)
	}
	own.consumers = maps.Clone(m.consumers)
	return &own
}
