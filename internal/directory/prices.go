package directory

// prices is prices of meters by region and instant: price.set.
type prices struct{}

func (d *prices) apply(_ *State, _ *parsed) {}
