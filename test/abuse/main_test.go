// Package abuse treats a running system as nobody should, rows 19 to 23 of the project's fault table: poison,
// requests without measure, clients without haste, floods of one id, a tenant far over its quota. Beside the
// abuse, producers send as always; what became of their events is the oracle's to say.
package abuse_test

import (
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
)

func TestMain(m *testing.M) { fight.Main(m) }

// logWait is how long ingest waits for the log in these tests. A machine that stands still for longer than the usual
// five seconds would have it answer 503 to requests whose answers are what is tested; the log itself is not abused here.
const logWait = 45 * time.Second

// patient are the flags of an ingest that waits so long.
func patient(more ...string) []string {
	return append([]string{"--commit-wait", logWait.String()}, more...)
}
