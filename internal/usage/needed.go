package usage

// Needed is a member of data that only some events of its type must have: what a schema's list of required members
// does not tell.
type Needed struct {
	Type   string
	Member string // below a list as lines[].series
	When   string
}

// neededOfGranted are members of a line of an elastic.operation: a denied item may have no price.
func neededOfGranted() [3]string { return [...]string{"meter_cost", "series", "version"} }

// neededOfAssets are members of a meter.defined: columns of the reports of assets.
func neededOfAssets() [2]string { return [...]string{"meter_id", "element"} }

// NeededMembers lists them, for the reference of events.
func NeededMembers() []Needed {
	all := []Needed{
		{TypeMetered, "start", "required with `end`"},
		{TypeMetered, "end", "required with `start`"},
	}
	for _, name := range neededOfAssets() {
		all = append(all, Needed{"meter.defined", name, "required of kind `secure_connect`"})
	}
	for _, name := range neededOfGranted() {
		all = append(all, Needed{TypeElastic, "lines[]." + name, "required of a granted line: response `" + ResponseGranted + "`"})
	}
	return all
}
