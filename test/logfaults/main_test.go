// Package logfaults breaks what the log stands on: its disk, its files, its network, its cluster. A test is a
// fault of the project's fault table, by number; each has a short form for `make test` and a full one for
// `make soak`.
package logfaults_test

import (
	"testing"

	"github.com/countinghouse/countinghouse/test/fight"
)

func TestMain(m *testing.M) { fight.Main(m) }
