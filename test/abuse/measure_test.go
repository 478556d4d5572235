package abuse_test

import (
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// cost of a part, which must live.
func cost(f *fight.Fight, p *rig.Part) rig.Cost {
	f.T.Helper()
	c, err := p.Cost()
	if err != nil {
		f.T.Fatalf("%s seed=%d: %s: %v", f.Name, f.Seed, p.Name, err)
	}
	return c
}

// grown is how much more memory a part ever had than at before, in MiB.
func grown(f *fight.Fight, p *rig.Part, before rig.Cost) int64 {
	f.T.Helper()
	return (cost(f, p).Peak - before.Peak) >> 20
}
