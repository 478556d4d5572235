package directory

// subscriptions is subscriptions to certificates and their inventory.
type subscriptions struct{}

func (d *subscriptions) apply(_ *State, _ *parsed) {}
