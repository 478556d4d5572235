// Package logfaults breaks what the log stands on: its disk, its files, its network, its cluster. A test is a
// fault of the project's fault table, by number; each has a short form for `make test` and a full one for
// `make soak`.
package logfaults_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/countinghouse/countinghouse/test/fight"
)

// atOnce is how many of these tests run at a time, on however few processors: they wait for elections and
// time-outs.
const atOnce = "4"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", atOnce); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fight.Main(m)
}
