package directory

// entitlements is what accounts may use: entitlement.set.
type entitlements struct{}

func (d *entitlements) apply(_ *State, _ *parsed) {}
