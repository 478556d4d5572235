// Package abuse treats a running system as nobody should, rows 19 to 23 of the project's fault table: poison,
// requests without measure, clients without haste, floods of one id, a tenant far over its quota. Beside the
// abuse, producers send as always; what became of their events is the oracle's to say.
package abuse_test

import (
	"testing"

	"github.com/countinghouse/countinghouse/test/fight"
)

func TestMain(m *testing.M) { fight.Main(m) }
