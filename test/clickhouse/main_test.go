// Package clickhouse breaks what lies between the aggregator and ClickHouse: answers that are lost at any
// byte, a server that is frozen, silent or slow, packets that come late.
package clickhouse_test

import (
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
)

// recovery is promised of ClickHouse's return.
const recovery = 15 * time.Second

func TestMain(m *testing.M) { fight.Main(m) }
