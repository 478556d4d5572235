package directory

// elastic is instances, rate tables and line items of elastic tokens.
type elastic struct{}

func (d *elastic) apply(_ *State, _ *parsed) {}
