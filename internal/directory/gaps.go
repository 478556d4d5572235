package directory

// gaps is spans of usage that are known to be missing.
type gaps struct{}

func (d *gaps) apply(_ *State, _ *parsed) {}
