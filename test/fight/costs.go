package fight

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/countinghouse/countinghouse/test/rig"
)

// Bound is what a part may hold at most (B), or the most it held.
type Bound struct {
	RSS        int64 // bytes
	Files      int64 // open descriptors
	Goroutines int64 // 0: it has none, or nobody counts them
}

// Costs is the most that each part has held, over all its lives.
type Costs struct {
	mu   sync.Mutex
	most map[string]Bound
}

// Watch looks at the parts once a second, until the test ends.
func (f *Fight) Watch() *Costs {
	c := &Costs{most: map[string]Bound{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.T.Context()))
	ended := make(chan struct{})
	f.T.Cleanup(func() {
		cancel()
		<-ended
	})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for _, p := range f.Parts() {
				c.look(ctx, p)
			}
		}
	}()
	return c
}

// look ignores errors: a part may be dead at the moment, or frozen.
func (c *Costs) look(ctx context.Context, p *rig.Part) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	goroutines, _ := p.Metric(ctx, "go_goroutines")
	cost, err := p.Cost()
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.most[p.Name]
	c.most[p.Name] = Bound{max(b.RSS, cost.RSS), max(b.Files, int64(cost.Files)), max(b.Goroutines, goroutines)}
}

// Above are the parts that held more than they may; caps are by the part's name without what follows a dash.
func (c *Costs) Above(caps map[string]Bound) (above []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, b := range c.most {
		kind, _, _ := strings.Cut(name, "-")
		if most := caps[kind]; b.RSS > most.RSS || b.Files > most.Files || b.Goroutines > most.Goroutines {
			above = append(above, fmt.Sprintf("%s held %s, may hold %s", name, b, most))
		}
	}
	return above
}

func (b Bound) String() string {
	return fmt.Sprintf("%dMiB/%dfd/%dg", b.RSS>>20, b.Files, b.Goroutines)
}

// String is what each part held at most, as RSS, descriptors, goroutines.
func (c *Costs) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(c.most)) {
		out = append(out, name+"="+c.most[name].String())
	}
	return strings.Join(out, " ")
}
