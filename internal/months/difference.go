package months

import (
	"fmt"
	"slices"

	"github.com/countinghouse/countinghouse/internal/report"
)

// Change is a figure that two versions of a month tell differently. A figure that one of them does not have
// is 0 there.
type Change struct {
	report.Figure        // its name; Value and Cost are the older ones
	NewValue, NewCost    string
	Delta, CostDelta     string // new minus old; CostDelta "" where neither has a cost
	valueZero, costsZero bool
}

// quantityDigits and costDigits are what quantities with a cost, and costs, print at least.
const (
	quantityDigits = 6
	costDigits     = 2
)

// difference compares the figures of two versions: what changed, in the order of compareFigures.
func difference(older, newer []report.Figure) ([]Change, error) {
	older, newer = slices.Clone(older), slices.Clone(newer)
	slices.SortStableFunc(older, compareFigures)
	slices.SortStableFunc(newer, compareFigures)
	var all []Change
	for i, j := 0, 0; i < len(older) || j < len(newer); {
		order := 0
		switch {
		case i == len(older):
			order = 1
		case j == len(newer):
			order = -1
		default:
			order = compareFigures(older[i], newer[j])
		}
		var c Change
		var now report.Figure
		switch {
		case order < 0:
			c.Figure, now = older[i], report.Figure{}
			i++
		case order > 0:
			c.Figure, now = newer[j], newer[j]
			c.Value, c.Cost = "", ""
			j++
		default:
			c.Figure, now = older[i], newer[j]
			i, j = i+1, j+1
		}
		c.NewValue, c.NewCost = now.Value, now.Cost
		if err := c.subtract(); err != nil {
			return nil, err
		}
		if !c.valueZero || !c.costsZero {
			all = append(all, c)
		}
	}
	return all, nil
}

// subtract fills in the differences.
func (c *Change) subtract() error {
	delta, err := minus(c.NewValue, c.Value)
	if err != nil {
		return fmt.Errorf("%s of %s: %w", c.Measure, c.Account, err)
	}
	cost, err := minus(c.NewCost, c.Cost)
	if err != nil {
		return fmt.Errorf("cost of %s of %s: %w", c.Meter, c.Account, err)
	}
	c.valueZero, c.costsZero = delta.Zero(), cost.Zero()
	if c.Cost == "" && c.NewCost == "" {
		c.Delta = delta.Text(0)
		return nil
	}
	c.Delta, c.CostDelta = delta.Text(quantityDigits), cost.Text(costDigits)
	return nil
}

func minus(a, b string) (report.Number, error) {
	x, err := report.ParseNumber(a)
	if err != nil {
		return report.Number{}, err
	}
	y, err := report.ParseNumber(b)
	if err != nil {
		return report.Number{}, err
	}
	return x.Minus(y), nil
}
