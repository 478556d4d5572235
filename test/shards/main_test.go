// Package shards_test runs two ClickHouse servers with the partitions of the log spread over both, kills what
// writes to them, and asks the oracle by way of the Distributed tables that readers use (ADR 0008).
package shards_test

import (
	"testing"

	"github.com/countinghouse/countinghouse/test/fight"
)

func TestMain(m *testing.M) { fight.Main(m) }
