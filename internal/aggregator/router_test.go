package aggregator

import (
	"testing"

	"github.com/countinghouse/countinghouse/internal/register"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// TestFoldedTypesAreOfTheDirectory: the router asks what the fold reads only of events of the directory, so that
// usage pays nothing for it.
func TestFoldedTypesAreOfTheDirectory(t *testing.T) {
	t.Parallel()
	for typ := range register.Types() {
		if !usage.Directory(typ) {
			t.Errorf("%s is folded and not stored in directory_events", typ)
		}
	}
}
