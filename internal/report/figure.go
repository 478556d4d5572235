package report

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
