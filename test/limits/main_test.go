// Package limits_test goes to the edges: a disk of the warehouse that is full, clocks that are wrong, quantities
// of the largest magnitude, configurations that cannot work, certificates and credentials that are renewed.
package limits_test

import (
	"testing"

	"github.com/countinghouse/countinghouse/test/fight"
)

func TestMain(m *testing.M) { fight.Main(m) }
