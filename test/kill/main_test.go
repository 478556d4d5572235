// Package kill kills the system's parts under load and asks an oracle what is left. A test is a fault of the
// project's fault table, by number; each has a short form for `make test` and a full one for `make soak`.
package kill_test

import (
	"testing"

	"github.com/countinghouse/countinghouse/test/fight"
)

func TestMain(m *testing.M) { fight.Main(m) }
