package report

import (
	"bytes"
	"encoding/json"

	"github.com/countinghouse/countinghouse/internal/directory"
)

// A million lines are about few instances and line items, so what the directory says of these is looked up once. Nothing
// here is kept longer than an answer takes.

// elasticWho is what a line is about.
type elasticWho struct{ instance, account, activation string }

// elasticKnown is what the directory says of it.
type elasticKnown struct {
	account string // whose it is; known since an instant, if ever
	since   int64
	ever    bool
	newest  directory.LineItem // the last step of the line item, if it was ever mapped
	mapped  bool
	// The last quantity that was printed, and how.
	quantity, printed string
}

// elasticMemo is what was looked up so far.
type elasticMemo struct {
	known map[elasticWho]*elasticKnown
	// The rate table of the line before, as it is printed: rarely another one.
	series, version, list string
}

// look is what the directory says of a line, whenever it happened.
func (m *elasticMemo) look(state *directory.State, l *elasticLine) *elasticKnown {
	who := elasticWho{l.instance, l.account, l.activation}
	if k := m.known[who]; k != nil {
		return k
	}
	if m.known == nil {
		m.known = map[elasticWho]*elasticKnown{}
	}
	k := &elasticKnown{}
	m.known[who] = k
	account, since, ok := state.Instance(l.instance)
	if !ok {
		return k
	}
	if account == "" {
		account = l.account
	}
	if of, created := state.Account(account, directory.Latest); created {
		k.account, k.since, k.ever = account, max(since, of.CreatedAt), true
	}
	if l.activation != "" {
		k.newest, k.mapped = state.LineItem(l.activation, directory.Latest)
	}
	return k
}

// item is the line item at an instant; false if it was not mapped by then.
func (k *elasticKnown) item(state *directory.State, activation string, at int64) (directory.LineItem, bool) {
	if !k.mapped || at >= k.newest.Since {
		return k.newest, k.mapped
	}
	return state.LineItem(activation, at)
}

// print is the shortest form of a quantity.
func (k *elasticKnown) print(quantity string) string {
	if quantity != k.quantity {
		k.quantity, k.printed = quantity, trimDecimal(quantity)
	}
	return k.printed
}

// costList is {"series":"…","version":"…"}, "" where the line names neither.
func (m *elasticMemo) costList(series, version string) string {
	if series == "" && version == "" {
		return ""
	}
	if series == m.series && version == m.version {
		return m.list
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(struct {
		Series  string `json:"series"`
		Version string `json:"version"`
	}{series, version}) // texts always encode
	m.series, m.version, m.list = series, version, string(bytes.TrimSpace(b.Bytes()))
	return m.list
}
