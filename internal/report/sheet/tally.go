package sheet

import (
	"fmt"
	"iter"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// Sum is the exact sum of decimals of any length. The zero value is 0.
type Sum struct {
	large *big.Int // in units of 10^-scale, without small
	small int64    // the same, as long as it fits
	scale int
}

// Add adds a decimal; "" adds nothing. false: it is none.
func (s *Sum) Add(cell string) bool {
	if cell == "" {
		return true
	}
	whole, fraction, dotted := strings.Cut(cell, ".")
	if dotted && fraction == "" {
		return false
	}
	if len(fraction) > s.scale {
		s.rescale(len(fraction))
	}
	if n, err := strconv.ParseInt(whole+fraction, 10, 64); err == nil && len(fraction) == s.scale {
		if n > 0 && s.small <= math.MaxInt64-n || n <= 0 && s.small >= math.MinInt64-n {
			s.small += n
			return true
		}
	}
	n, ok := new(big.Int).SetString(whole+fraction, 10)
	if !ok {
		return false
	}
	s.flush()
	s.large.Add(s.large, n.Mul(n, tenTo(s.scale-len(fraction))))
	return true
}

func tenTo(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

func (s *Sum) flush() {
	if s.large == nil {
		s.large = new(big.Int)
	}
	s.large.Add(s.large, big.NewInt(s.small))
	s.small = 0
}

func (s *Sum) rescale(scale int) {
	s.flush()
	s.large.Mul(s.large, tenTo(scale-s.scale))
	s.scale = scale
}

// Text is the sum with as many decimals as the longest that was added.
func (s *Sum) Text() string {
	s.flush()
	digits := new(big.Int).Abs(s.large).String()
	for len(digits) <= s.scale {
		digits = "0" + digits
	}
	if s.scale > 0 {
		digits = digits[:len(digits)-s.scale] + "." + digits[len(digits)-s.scale:]
	}
	if s.large.Sign() < 0 {
		return "-" + digits
	}
	return digits
}

// Times is n of parts, where the sum is part of whole: a length to draw. Nothing is rounded but the result, down.
func (s *Sum) Times(n int64, whole *Sum) int64 {
	s.flush()
	whole.flush()
	a, b := new(big.Int).Mul(s.large, tenTo(whole.scale)), new(big.Int).Mul(whole.large, tenTo(s.scale))
	if b.Sign() == 0 {
		return 0
	}
	return a.Mul(a, big.NewInt(n)).Quo(a, b).Int64()
}

// Compare compares sums by their size, whatever their sign.
func (s *Sum) Compare(other *Sum) int {
	s.flush()
	other.flush()
	a, b := new(big.Int).Mul(s.large, tenTo(other.scale)), new(big.Int).Mul(other.large, tenTo(s.scale))
	return a.CmpAbs(b)
}

// Total is the control total of a column whose rows add up.
type Total struct {
	Column string `json:"column"`
	Sum    string `json:"sum"`
}

// Tally counts and sums the rows of a table while they pass.
type Tally struct {
	columns []Column
	sums    []*Sum // nil: not numeric
	Rows    int64
}

// NewTally is a tally of a table's rows.
func NewTally(columns []Column) *Tally {
	t := &Tally{columns: columns, sums: make([]*Sum, len(columns))}
	for i, c := range columns {
		if c.Kind == Whole || c.Kind == Decimal {
			t.sums[i] = &Sum{}
		}
	}
	return t
}

// Of are rows as they were, counted. each, if not nil, is called with every one.
func (t *Tally) Of(rows iter.Seq2[Row, error], each func(Row)) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for row, err := range rows {
			if err == nil {
				err = t.add(row)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if each != nil {
				each(row)
			}
			if !yield(row, nil) {
				return
			}
		}
	}
}

func (t *Tally) add(row Row) error {
	t.Rows++
	for i, sum := range t.sums {
		if sum != nil && !sum.Add(row[i]) {
			return fmt.Errorf("column %s has the value %.60q, which is no number", t.columns[i].Name, row[i])
		}
	}
	return nil
}

// Totals are the control totals of the columns whose rows add up, in their order.
func (t *Tally) Totals() []Total {
	totals := []Total{}
	for i, sum := range t.sums {
		if sum != nil && t.columns[i].Adds {
			totals = append(totals, Total{t.columns[i].Name, sum.Text()})
		}
	}
	return totals
}
