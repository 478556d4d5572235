// Package clickhouse breaks what lies between the aggregator and ClickHouse: answers that are lost at any
// byte, a server that is frozen, silent or slow, packets that come late.
package clickhouse_test

import (
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// recovery is promised of ClickHouse's return.
const recovery = 15 * time.Second

func TestMain(m *testing.M) { fight.Main(m) }

// await waits for something that a fault is to do.
func await(f *fight.Fight, what string, done <-chan struct{}) {
	f.T.Helper()
	select {
	case <-done:
	case <-time.After(rig.SettleWait):
		f.T.Fatalf("%s seed=%d: not yet: %s\n%s", f.Name, f.Seed, what, f.Rig.Logs())
	}
}
