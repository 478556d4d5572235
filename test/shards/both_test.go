package shards_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// both is a fight over two servers.
type both struct{ *fight.Fight }

// counted is how far each partition is, on the server that has it; -1 where none has.
func (b *both) counted(ctx context.Context) [partitions]int64 {
	var all [partitions]int64
	for p := range all {
		all[p] = -1
	}
	for i := range servers {
		rows, err := b.Rig.Server(i).Rows(ctx, "SELECT shard, max(seq) FROM "+rig.Rows+".ledger GROUP BY shard")
		if err != nil {
			continue
		}
		for _, r := range rows {
			p, _ := strconv.Atoi(r[0]) // a number, or the wrong partition: the test fails
			if n, err := strconv.ParseInt(r[1], 10, 64); err == nil && p < partitions {
				all[p] = n
			}
		}
	}
	return all
}

// recovered waits until every partition has counted what was in the log a moment ago, and the load lives.
func (b *both) recovered() {
	b.T.Helper()
	begun := time.Now()
	acked := b.Load.Requests()
	b.Rig.Until("ingest acknowledges again", rig.SettleWait, func(context.Context) bool { return b.Load.Requests() > acked })
	var logged [partitions]int64
	b.Rig.Until("the log answers", rig.SettleWait, func(ctx context.Context) bool {
		for p := range logged {
			info, err := b.Rig.Stream(ctx, fmt.Sprintf("USAGE_%d", p))
			if err != nil {
				return false
			}
			logged[p] = int64(info.State.LastSeq)
		}
		return true
	})
	b.Rig.Until(fmt.Sprintf("every partition counts past %v", logged), rig.SettleWait, func(ctx context.Context) bool {
		now := b.counted(ctx)
		for p := range now {
			if now[p] < logged[p] {
				return false
			}
		}
		return true
	})
	b.Worst = max(b.Worst, time.Since(begun))
	b.T.Logf("recovered after %s", time.Since(begun))
}

// aggregatorGone freezes one aggregator past its lease, so that the other has to take its partitions over,
// on both servers; then it kills the frozen one, and the next life gets its share back.
func (b *both) aggregatorGone() {
	b.T.Helper()
	gone := b.Rnd.IntN(len(b.Rig.Aggregators))
	part, other := b.Rig.Aggregators[gone], []string{"two", "one"}[gone]
	part.Freeze()
	b.Rig.Until(other+" owns every partition", rig.SettleWait, func(ctx context.Context) bool {
		return slices.Equal(b.owners(ctx), slices.Repeat([]string{other}, partitions))
	})
	b.recovered()
	back := part.Back()
	part.Kill()
	b.Await(part, back)
	b.recovered()
}

// owners names the owner of each partition, by the owner rows of its server.
func (b *both) owners(ctx context.Context) []string {
	all := make([]string, partitions)
	for i := range servers {
		rows, err := b.Rig.Server(i).Rows(ctx, "SELECT shard, argMax(holder, (epoch, nonce)) FROM "+rig.Rows+".owner GROUP BY shard")
		if err != nil {
			return nil
		}
		for _, r := range rows {
			if p, err := strconv.Atoi(r[0]); err == nil && p < partitions {
				all[p] += r[1]
			}
		}
	}
	return all
}

// serverStill lets one server stand still: the partitions of the other are counted on.
func (b *both) serverStill(i int) {
	b.T.Helper()
	other := 1 - i
	count := func(ctx context.Context) (n int64) {
		answer, err := b.Rig.Server(other).Numbers(ctx, "SELECT sum(seq) FROM (SELECT max(seq) AS seq FROM "+rig.Rows+".ledger GROUP BY shard)")
		if err != nil {
			return 0
		}
		return answer[0]
	}
	b.Rig.ClickHouses[i].Freeze()
	before := count(b.T.Context())
	b.Rig.Until("the other server's partitions go on", rig.SettleWait, func(ctx context.Context) bool { return count(ctx) > before+5 })
	b.Rig.ClickHouses[i].Thaw()
	b.recovered()
}

// placed checks that each partition is on one server, partition % n, and that both have some.
func (b *both) placed() {
	b.T.Helper()
	for _, table := range []string{"owner", "ledger", "events", "pieces", "usage_hourly", "usage_monthly", "duplicates", "dead_letters"} {
		for i := range servers {
			rows, err := b.Rig.Server(i).Rows(b.T.Context(), "SELECT DISTINCT shard FROM "+rig.Rows+"."+table+" ORDER BY shard")
			if err != nil {
				b.T.Fatal(err)
			}
			var have []string
			for _, r := range rows {
				have = append(have, r[0])
			}
			var want []string
			for p := i; p < partitions; p += servers {
				want = append(want, strconv.Itoa(p))
			}
			whole := table == "owner" || table == "ledger"
			if extra := slices.ContainsFunc(have, func(s string) bool { return !slices.Contains(want, s) }); extra || whole && !slices.Equal(have, want) {
				b.T.Errorf("%s of server %d has partitions %s, want %s", table, i, strings.Join(have, " "), strings.Join(want, " "))
			}
		}
	}
	for i := range servers {
		n, err := b.Rig.Server(i).Numbers(b.T.Context(), "SELECT (SELECT count() FROM "+rig.Rows+".events), (SELECT count() FROM system.detached_parts)")
		if err != nil || n[0] == 0 || n[1] != 0 {
			b.T.Errorf("server %d has events, detached parts: %v, %v", i, n, err)
		}
		b.Note += fmt.Sprintf(" rows%d=%d", i, n[0])
	}
}
