package kill_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/proxy"
	"github.com/countinghouse/countinghouse/test/rig"
)

// planted are bugs that others had, or that the design warns of, with the fault of the table that brings
// them out. The first ones are planted in every run, all of them by `make planted` and in the full form.
var planted = []struct {
	name   string
	rivals bool // it takes two aggregators
	soak   bool // the soak is to see it too
	bugs   []rig.Mutation
	fault  func(f *fight.Fight, n network)
}{
	{
		name: "watermark not read again after an error", soak: true,
		bugs: []rig.Mutation{{
			File: "internal/aggregator/partition.go",
			Old:  "router: newRouter(writer.Watermarks()),",
			New:  "router: newRouter(p.firstMarks(writer.Watermarks())),",
		}, {
			File: "internal/aggregator/partition.go",
			Old:  "\tfilter   *filter // nil until the first session\n",
			New:  "\tmarks watermarks\n\tfilter   *filter // nil until the first session\n",
		}, {
			File: "internal/aggregator/partition.go",
			Old:  "\n// waiting loads the voids",
			New:  "\nfunc (p *partition) firstMarks(w watermarks) watermarks {\n\tif p.marks == nil {\n\t\tp.marks = w\n\t}\n\treturn p.marks\n}\n\n// waiting loads the voids",
		}},
		fault: answerLost("events"),
	},
	{
		name: "ack before insert: the ledger is written first", soak: true,
		bugs: []rig.Mutation{{
			File: "internal/aggregator/commit.go",
			Old:  "\tif err := run(ctx, inserts); err != nil {",
			New:  "\tif err := to.Insert(ctx, warehouse.Ledger, b); err != nil {\n\t\treturn err\n\t}\n\tif err := run(ctx, inserts); err != nil {",
		}, {
			File: "internal/aggregator/commit.go",
			Old:  "\tfaultpoint.Hit(\"aggregator/before-ledger\")\n\tif err := to.Insert(ctx, warehouse.Ledger, b); err != nil {",
			New:  "\tfaultpoint.Hit(\"aggregator/before-ledger\")\n\tif err := error(nil); err != nil {",
		}},
		fault: aggregatorDies("warehouse/inserted:1"),
	},
	{
		name: "ack before insert: answered before the log has it",
		bugs: []rig.Mutation{{
			File: "internal/ingest/commit.go",
			Old:  "receipt, err := c.log.Append(ctx, key.tenant, uuid.New(), b.encoded)",
			New:  "early := append([]byte(nil), b.encoded...)\n\tgo c.log.Append(context.WithoutCancel(ctx), key.tenant, uuid.New(), early)\n\tvar receipt eventlog.Receipt",
		}},
		fault: logDies,
	},
	{
		name: "dedup mark before the row", soak: true, // in a store that outlives the attempt to write the row
		bugs: []rig.Mutation{{
			File: "internal/aggregator/decide.go",
			Old:  "\td.fill(&d.row, c, it, pos)\n\tif it.event.Type == usage.TypeVoided {",
			New: "\tif seenMarks[keyOf(c.tenant, id)] {\n\t\td.duplicate(c, it, saying{ident: it.ident}, id, pos, pos)\n\t\tl.duplicate++\n\t\treturn nil\n\t}\n" +
				"\tseenMarks[identityKey{strings.Clone(c.tenant), strings.Clone(id.Source), strings.Clone(id.ID)}] = true\n" +
				"\td.fill(&d.row, c, it, pos)\n\tif it.event.Type == usage.TypeVoided {",
		}, {
			File: "internal/aggregator/decide.go",
			Old:  "\n// known is what history",
			New:  "\nvar seenMarks = map[identityKey]bool{}\n\n// known is what history",
		}},
		fault: rowsLost,
	},
	{
		name: "fence left out", rivals: true,
		bugs: []rig.Mutation{{
			File: "internal/warehouse/writer.go",
			Old:  "strconv.FormatUint(wr.nonce, 10) + \")\" +\n",
			New:  "strconv.FormatUint(wr.nonce, 10) + \") OR true\" +\n",
		}},
		fault: func(f *fight.Fight, n network) { f.LateInsert("ledger", n.warehouse, n.nats) },
	},
	{
		name: "rollup inserted without its watermark",
		bugs: []rig.Mutation{{
			File: "internal/aggregator/router.go",
			Old:  "r.hourly.add(row, r.gate[warehouse.Hourly])",
			New:  "r.hourly.add(row, keeper{past: true})",
		}},
		fault: answerLost("usage_hourly"),
	},
	{
		name: "monthly rollup inserted without its watermark",
		bugs: []rig.Mutation{{
			File: "internal/aggregator/router.go",
			Old:  "r.monthly.add(row, r.gate[warehouse.Monthly])",
			New:  "r.monthly.add(row, keeper{past: true})",
		}},
		fault: answerLost("usage_monthly"),
	},
	{
		name: "the rollup trusts the watermark of the raw rows",
		bugs: []rig.Mutation{{
			File: "internal/aggregator/router.go",
			Old:  "r.hourly.add(row, r.gate[warehouse.Hourly])",
			New:  "r.hourly.add(row, r.gate[warehouse.Events])",
		}},
		fault: diesHalfWay,
	},
	{
		name: "watermarks ignored after a crash",
		bugs: []rig.Mutation{{
			File: "internal/aggregator/commit.go",
			Old:  "return k.past || seq > k.marks[partitionOf(t, ms)]",
			New:  "return true",
		}},
		fault: aggregatorDies("aggregator/before-ledger:1"),
	},
	{
		name: "what is in flight is not remembered",
		bugs: []rig.Mutation{{
			File: "internal/aggregator/decide.go",
			Old:  "if o, b := d.memory.inFlight(k); o != nil {",
			New:  "if o, b := d.memory.inFlight(k); o != nil && o == nil {",
		}},
		fault: func(f *fight.Fight, _ network) { f.Recovered() },
	},
}

// network is what lies between the aggregators and their servers.
type network struct {
	warehouse *proxy.Proxy
	nats      []*proxy.Proxy // of each aggregator
}

// TestPlanted shows that the harness sees: with each bug planted, the same system under the same load and
// a fault of the table gives totals that are wrong, and the oracle says so.
func TestPlanted(t *testing.T) {
	for _, p := range planted[:min(plantedCount, len(planted))] {
		t.Run(p.name, func(t *testing.T) {
			program, err := rig.Build(t.Context(), t.TempDir(), p.bugs...)
			if err != nil {
				t.Fatal(err)
			}
			var n network
			opts := rig.Options{
				Program: program, NoVoids: true, ClickHouseOfAggregator: proxy.Between(t, &n.warehouse), NATSOfAggregator: proxy.BetweenEach(t, &n.nats),
			}
			if p.rivals {
				opts.Aggregators = []string{"one", "two"}
			}
			f := fight.Begin(t, "PLANTED", opts)
			p.fault(f, n)
			result := f.Settled()
			if result.Err() == nil {
				t.Fatalf("PLANTED seed=%d: %s, and the oracle sees nothing", f.Seed, p.name)
			}
			fmt.Printf("PLANTED SEEN seed=%d %q lost=%d doubled=%d phantom=%d: %s\n", f.Seed, p.name, result.Lost, result.Doubled, result.Phantom, result.Violations[0])
		})
	}
}

// answerLost is F11: an insert is done, and who sent it is not told.
func answerLost(table string) func(*fight.Fight, network) {
	return func(f *fight.Fight, n network) {
		f.T.Helper()
		f.CutNext(n.warehouse, table, fight.Place{Direction: proxy.ToClient, FromEnd: true, Bytes: 1}, proxy.Reset)
		f.Recovered()
	}
}

// rowsLost is F11, the way there.
func rowsLost(f *fight.Fight, n network) {
	f.T.Helper()
	f.CutNext(n.warehouse, "events", fight.Place{Direction: proxy.ToServer}, proxy.Reset)
	f.Recovered()
}

// diesHalfWay is F02: the aggregator dies when the rollup has a batch that the raw table lacks.
func diesHalfWay(f *fight.Fight, n network) {
	f.T.Helper()
	f.CutNext(n.warehouse, "events", fight.Place{Direction: proxy.ToServer, FromEnd: true, Bytes: 1}, proxy.Stall)
	f.Rig.Until("the rollup is ahead", rig.SettleWait, func(ctx context.Context) bool {
		ahead, err := f.Rig.Warehouse().Numbers(ctx, "SELECT (SELECT max(hi) FROM countinghouse.usage_hourly) > (SELECT max(seq) FROM countinghouse.events)")
		return err == nil && ahead[0] == 1
	})
	f.Rig.Aggregators[0].Kill()
	f.Recovered()
}

// aggregatorDies is F02, at a crash point.
func aggregatorDies(at string) func(*fight.Fight, network) {
	return func(f *fight.Fight, _ network) {
		f.T.Helper()
		f.Dies(f.Rig.Aggregators[0], "at "+at, faultpoint.Variable+"="+at)
		f.Recovered()
	}
}

// logDies is F03, and what ingest had sent dies with it: while NATS is frozen, no answer can be true.
func logDies(f *fight.Fight, _ network) {
	f.T.Helper()
	f.Rig.NATS.Freeze()
	answered := f.Load.Requests()
	f.Rig.Until("ingest answers without the log", rig.SettleWait, func(context.Context) bool { return f.Load.Requests() > answered+10 })
	f.Rig.Ingest.Kill()
	f.Rig.NATS.Kill() // with what nobody had read
	f.Recovered()
}
