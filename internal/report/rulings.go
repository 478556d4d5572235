package report

import (
	"cmp"
	"context"
	"slices"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// firstUse is the first instant of a meter's live usage in a cut: the order of `events` has it at the front.
const firstUse = `
SELECT toUnixTimestamp64Milli(at)
FROM {{db}}.events
WHERE tenant = {tenant:String} AND meter = {meter:String} AND sign = 1 AND at < fromUnixTimestamp64Milli({before:Int64}, 'UTC')
    AND ` + inCut + `
    AND (source, id) NOT IN
    (
        SELECT source, id
        FROM {{db}}.events
        WHERE tenant = {tenant:String} AND meter = {meter:String} AND sign = -1 AND ` + inCut + `
    )
ORDER BY at
LIMIT 1`

// judged is the state in which no meter is redefined after its first use. Only meters with several definitions,
// which are rare, cost a question each.
func (r *Reports) judged(ctx context.Context, tenant string, cut Cut, state *directory.State) (*directory.State, error) {
	used := map[string]int64{}
	for meter, before := range state.Contested() {
		params := cut.params(map[string]any{"tenant": tenant, "meter": meter, "before": before})
		err := r.query(ctx, "look for the first use of a meter", firstUse, params, func(row warehouse.Rows) error {
			var at int64
			err := row.Scan(&at)
			used[meter] = at
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return state.Judge(used), nil
}

// rulings are the events of a tenant that the rules of the directory leave without effect, as of now, and the usage
// that those of assets leave out.
func (r *Reports) rulings(ctx context.Context, tenant string) ([]directory.Ruling, error) {
	state, err := r.directoryAt(ctx, tenant, Cut{AsOf: directory.Latest})
	if err != nil {
		return nil, err
	}
	assets, err := r.assetRulings(ctx, tenant, state, "", "")
	return slices.Concat(state.Rulings(), assets), err
}

// ruledLetters are the rulings that a question for dead letters is about.
func (r *Reports) ruledLetters(ctx context.Context, q DeadLettersQuery) ([]DeadLetter, error) {
	rulings, err := r.rulings(ctx, q.Tenant)
	if err != nil {
		return nil, err
	}
	letters := []DeadLetter{}
	for i := range rulings {
		u := &rulings[i]
		d := DeadLetter{
			Position: Position(u.Position), Source: u.Source, ID: u.ID, Type: u.Type, Account: u.Account, Reason: u.Rule, Detail: u.Detail,
			RecordedAt: Instant(u.RecordedAt),
		}
		if !q.wants(d) {
			continue
		}
		raw := []byte(u.Document())
		d.Bytes = int64(len(raw))
		if q.Raw {
			d.Raw = raw
		}
		letters = append(letters, d)
	}
	return letters, nil
}

// wants is what the statement deadLetters says of a row.
func (q DeadLettersQuery) wants(d DeadLetter) bool {
	at := int64(d.RecordedAt)
	switch {
	case q.Reason != "" && d.Reason != q.Reason, q.Source != "" && d.Source != q.Source, q.ID != "" && d.ID != q.ID:
		return false
	case at < q.From || at >= q.To:
		return false
	case q.At != nil && d.Position != *q.At:
		return false
	}
	return q.Before == nil || compareMarks(d.Mark(), *q.Before) < 0
}

func compareMarks(a, b Mark) int {
	return cmp.Or(cmp.Compare(a.RecordedAt, b.RecordedAt), cmp.Compare(a.Shard, b.Shard), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Idx, b.Idx))
}

// withRulings adds rulings to a page of dead letters, newest first.
func (r *Reports) withRulings(ctx context.Context, q DeadLettersQuery, page []DeadLetter) ([]DeadLetter, error) {
	ruled, err := r.ruledLetters(ctx, q)
	if err != nil || len(ruled) == 0 {
		return page, err
	}
	page = append(page, ruled...)
	slices.SortStableFunc(page, func(a, b DeadLetter) int { return compareMarks(b.Mark(), a.Mark()) })
	return page[:min(len(page), q.Limit)], nil
}

// traceRuling says so if an event that is stored has no effect because of a rule.
func (r *Reports) traceRuling(ctx context.Context, t *Trace, params map[string]any) error {
	if t.Status != Stored || t.Type != usage.TypeMetered && !slices.Contains(directory.Types(), t.Type) {
		return nil
	}
	tenant, _ := params["tenant"].(string)
	state, err := r.directoryAt(ctx, tenant, Cut{AsOf: directory.Latest})
	if err != nil {
		return err
	}
	rulings := state.Rulings()
	if t.Type == usage.TypeMetered {
		if rulings, err = r.assetRulings(ctx, tenant, state, t.Source, t.ID); err != nil {
			return err
		}
	}
	for i := range rulings {
		if u := &rulings[i]; u.Source == t.Source && u.ID == t.ID {
			t.Status, t.Detail = u.Rule, u.Detail
		}
	}
	return nil
}
