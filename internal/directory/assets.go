package directory

// assets is assets, their names and trials: asset.*.
type assets struct{}

func (d *assets) apply(_ *State, _ *parsed) {}
