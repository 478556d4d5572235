package clickhouse_test

import (
	"fmt"
	"testing"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/proxy"
	"github.com/countinghouse/countinghouse/test/rig"
)

// exchangeBytes is how much of each end of the exchange is tried byte by byte: with less to say, that is
// the whole answer to an insert.
const exchangeBytes = 50

// F11: the insert is done and its answer is lost, at any byte of it; or the rows are lost, at any of theirs.
func TestF11AnswerLost(t *testing.T) {
	var p *proxy.Proxy
	f := fight.Begin(t, "F11", rig.Options{ClickHouseOfAggregator: proxy.Between(t, &p)})
	f.Limit(recovery)
	places := cuts(f)
	tables := []string{"events", "usage_hourly", "usage_monthly", "pieces", "ledger"}
	for _, at := range places {
		table, end := tables[f.Rnd.IntN(len(tables))], []proxy.End{proxy.Reset, proxy.Close}[f.Rnd.IntN(2)]
		f.CutNext(p, table, at, end)
		f.Recovered()
	}
	f.Note += fmt.Sprintf(" cuts=%d", len(places))
	f.End()
}

// cuts are the places, in random order: in the short form a few of each kind.
func cuts(f *fight.Fight) []fight.Place {
	var places []fight.Place
	for _, d := range []proxy.Direction{proxy.ToClient, proxy.ToServer} {
		for _, fromEnd := range []bool{false, true} {
			for _, n := range f.Rnd.Perm(exchangeBytes)[:fight.Rounds(2, exchangeBytes)] {
				places = append(places, fight.Place{Direction: d, FromEnd: fromEnd, Bytes: int64(n)})
			}
		}
	}
	f.Rnd.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
	return places
}
