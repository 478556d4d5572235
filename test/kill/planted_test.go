package kill_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// planted are bugs that others had, or that the design warns of, with the fault that brings them out. The
// first is planted in every run, all of them in the full form.
var planted = []struct {
	name  string
	bugs  []rig.Mutation
	fault func(f *fight.Fight)
}{
	{
		"watermarks ignored after a crash",
		[]rig.Mutation{{
			File: "internal/aggregator/commit.go",
			Old:  "return k.past || seq > k.marks[partitionOf(t, ms)]",
			New:  "return true",
		}},
		func(f *fight.Fight) { aggregatorDies(f, "aggregator/before-ledger:1") },
	},
	{
		"the rollup trusts the watermark of the raw rows",
		[]rig.Mutation{{
			File: "internal/aggregator/router.go",
			Old:  "r.hourly.add(row, r.gate[warehouse.Hourly])",
			New:  "r.hourly.add(row, r.gate[warehouse.Events])",
		}},
		func(f *fight.Fight) {
			for n := range 12 { // some targets are in, some are not
				aggregatorDies(f, fmt.Sprintf("warehouse/inserted:%d", 1+n))
			}
		},
	},
	{
		"the ledger is written first",
		[]rig.Mutation{{
			File: "internal/aggregator/commit.go",
			Old:  "\tif err := run(ctx, inserts); err != nil {",
			New:  "\tif err := to.Insert(ctx, warehouse.Ledger, b); err != nil {\n\t\treturn err\n\t}\n\tif err := run(ctx, inserts); err != nil {",
		}, {
			File: "internal/aggregator/commit.go",
			Old:  "\tfaultpoint.Hit(\"aggregator/before-ledger\")\n\tif err := to.Insert(ctx, warehouse.Ledger, b); err != nil {",
			New:  "\tfaultpoint.Hit(\"aggregator/before-ledger\")\n\tif err := error(nil); err != nil {",
		}},
		func(f *fight.Fight) { aggregatorDies(f, "warehouse/inserted:1") },
	},
	{
		"answered before the log has it",
		[]rig.Mutation{{
			File: "internal/ingest/commit.go",
			Old:  "if _, err := c.log.Append(ctx, key.tenant, uuid.New(), b.encoded); err != nil {",
			New:  "early := append([]byte(nil), b.encoded...)\n\tgo c.log.Append(context.WithoutCancel(ctx), key.tenant, uuid.New(), early)\n\tif err := error(nil); err != nil {",
		}},
		func(f *fight.Fight) {
			f.Rig.NATS.Freeze() // from here on no answer can be true
			answered := f.Load.Requests()
			f.Rig.Until("ingest answers without the log", rig.SettleWait, func(context.Context) bool { return f.Load.Requests() > answered+10 })
			f.Rig.Ingest.Kill()
			f.Rig.NATS.Kill() // with what ingest had sent and nobody had read
			f.Recovered()
		},
	},
	{
		"what is in flight is not remembered",
		[]rig.Mutation{{
			File: "internal/aggregator/decide.go",
			Old:  "if o, b := d.memory.inFlight(k); o != nil {",
			New:  "if o, b := d.memory.inFlight(k); o != nil && o == nil {",
		}},
		func(f *fight.Fight) { f.Recovered() },
	},
}

// TestPlanted shows that the oracle sees: with each bug planted, the same system under the same load and
// a fault gives totals that are wrong, and it says so.
func TestPlanted(t *testing.T) {
	for _, p := range planted[:fight.Rounds(1, len(planted))] {
		t.Run(p.name, func(t *testing.T) {
			program, err := rig.Build(t.Context(), t.TempDir(), p.bugs...)
			if err != nil {
				t.Fatal(err)
			}
			f := fight.Begin(t, "PLANTED", rig.Options{Program: program, NoVoids: true})
			p.fault(f)
			result := f.Settled()
			if result.Err() == nil {
				t.Fatalf("PLANTED seed=%d: %s, and the oracle sees nothing", f.Seed, p.name)
			}
			fmt.Printf("PLANTED SEEN seed=%d %q lost=%d doubled=%d phantom=%d: %s\n", f.Seed, p.name, result.Lost, result.Doubled, result.Phantom, result.Violations[0])
		})
	}
}

// aggregatorDies lets the aggregator die at a crash point.
func aggregatorDies(f *fight.Fight, at string) {
	f.T.Helper()
	f.Dies(f.Rig.Aggregators[0], "at "+at, faultpoint.Variable+"="+at)
	f.Recovered()
}
