package report

import (
	"context"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// Measures of figures.
const (
	MeasureQuantity   = "quantity"   // of a meter: the account's own
	MeasureRegistered = "registered" // STA: with all accounts below
	MeasureToken      = "token"
	MeasureActivity   = "activity"
)

// Figure is a number of a month that finance publishes: what closed versions store and adjustments compare.
// All fields but Value, Cost and Currency tell figures apart.
type Figure struct {
	Account, Plan, Meter, Region, Platform string
	Trial                                  bool
	Measure                                string
	Value                                  string // exact decimal
	Cost, Currency                         string // of Secure Connect; "" elsewhere
}

// costFigures are the rows of asset-monthly-costs of a month for every organization: the quantity, and what it
// costs. Account is the tenant of Secure Connect.
func (r *Reports) costFigures(_ context.Context, _ string, _ usage.Month, _ Cut) ([]Figure, error) {
	return nil, nil
}
