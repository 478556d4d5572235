package directory

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
)

// gaps is spans of usage that are known to be missing: ingest.gap_declared adds one, ingest.gap_closed takes
// away exactly what it covers. Each is about its account, or, without one, about all accounts of its source:
// those whose first creation that source sent.
//
// Gaps are no part of a state at an instant: what is known to be missing of March is known whenever it was
// said. Of two that were said in one instant, the declaration comes first.
type gaps struct {
	accounts map[string][]gapStep
	sources  map[string][]gapStep
	said     int
}

type gapStep struct {
	Span
	at     int64
	closed bool
	order  int
}

// Gap is a span in which usage is missing.
type Gap struct {
	Account string // "" for all accounts of the source
	Source  string
	Span
}

type gapData struct {
	From string `json:"from"`
	To   string `json:"to"`
}

func (d *gaps) apply(_ *State, e *parsed) {
	var in gapData
	if json.Unmarshal([]byte(e.Data), &in) != nil {
		return
	}
	if d.accounts == nil {
		d.accounts, d.sources = map[string][]gapStep{}, map[string][]gapStep{}
	}
	d.said++
	said := gapStep{Span{instantOf(in.From), instantOf(in.To)}, e.At, e.Type == "ingest.gap_closed", d.said}
	if e.Account != "" {
		d.accounts[e.Account] = append(d.accounts[e.Account], said)
	} else {
		d.sources[e.Source] = append(d.sources[e.Source], said)
	}
}

// open is what remains of steps: disjoint spans in order of time.
func open(steps []gapStep) []Span {
	if len(steps) == 0 {
		return nil
	}
	slices.SortFunc(steps, func(a, b gapStep) int {
		byKind := 0
		if a.closed != b.closed {
			byKind = -1
			if a.closed {
				byKind = 1
			}
		}
		return cmp.Or(cmp.Compare(a.at, b.at), byKind, cmp.Compare(a.order, b.order))
	})
	var missing []Span
	for _, said := range steps {
		missing = without(missing, said.Span)
		if !said.closed && said.From < said.To {
			missing = append(missing, said.Span)
		}
	}
	slices.SortFunc(missing, func(a, b Span) int { return cmp.Compare(a.From, b.From) })
	joined := missing[:0]
	for _, m := range missing {
		if n := len(joined); n > 0 && joined[n-1].To == m.From {
			joined[n-1].To = m.To
		} else {
			joined = append(joined, m)
		}
	}
	return joined
}

// without is what is left of disjoint spans after one is taken away.
func without(spans []Span, gone Span) []Span {
	var left []Span
	for _, s := range spans {
		if gone.From >= s.To || gone.To <= s.From {
			left = append(left, s)
			continue
		}
		if s.From < gone.From {
			left = append(left, Span{s.From, gone.From})
		}
		if gone.To < s.To {
			left = append(left, Span{gone.To, s.To})
		}
	}
	return left
}

// Missing are the spans in which usage of an account is missing, in order of time.
func (s *State) Missing(account string) []Span {
	if s.gaps.said == 0 {
		return nil
	}
	steps := slices.Clone(s.gaps.accounts[account])
	if a := s.existing(account); a != nil {
		steps = append(steps, s.gaps.sources[a.source]...)
	}
	return open(steps)
}

// MissingIn reports whether any usage of an account is missing in [from, to).
func (s *State) MissingIn(account string, from, to int64) bool {
	return slices.ContainsFunc(s.Missing(account), func(m Span) bool { return m.From < to && from < m.To })
}

// Gaps are the gaps that reach into [from, to), those of sources first, each by name. One of a source is listed
// although it may be closed for some of its accounts.
func (s *State) Gaps(from, to int64) []Gap {
	var all []Gap
	add := func(g Gap, steps []gapStep) {
		for _, g.Span = range open(slices.Clone(steps)) {
			if g.From < to && from < g.To {
				all = append(all, g)
			}
		}
	}
	for _, source := range slices.Sorted(maps.Keys(s.gaps.sources)) {
		add(Gap{Source: source}, s.gaps.sources[source])
	}
	for _, account := range slices.Sorted(maps.Keys(s.gaps.accounts)) {
		add(Gap{Account: account}, s.gaps.accounts[account])
	}
	return all
}
