package usage_test

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// A lending parser reads the same events, in one batch or one by one, and keeps its word until Reclaim;
// what it was lent before does not show through.
func TestLentEventsAreTheSame(t *testing.T) {
	lender, owner := usage.NewParser(usage.Limits{Dimensions: 2}), usage.NewParser(usage.Limits{Dimensions: 2})
	lender.Lend()
	rapid.Check(t, func(t *rapid.T) {
		docs := rapid.SliceOfN(rapid.Custom(document), 1, 80).Draw(t, "documents")
		batch := []byte("[" + strings.Join(docs, ",") + "]")
		var lent, owned []usage.Event
		var lentCodes, ownedCodes []string
		err := lender.BatchInto(batch, func() *usage.Event {
			lent = append(lent, usage.Event{})
			return &lent[len(lent)-1]
		}, func(_ int, _ []byte, faults []usage.Fault) error {
			lentCodes = append(lentCodes, codes(faults))
			return nil
		})
		want := owner.Batch(batch, func(_ int, _ []byte, e usage.Event, faults []usage.Fault) error {
			owned, ownedCodes = append(owned, e), append(ownedCodes, codes(faults))
			return nil
		})
		if (err == nil) != (want == nil) {
			t.Fatalf("lent %v, owned %v", err, want)
		}
		if err == nil && (!reflect.DeepEqual(lent, owned) || !reflect.DeepEqual(lentCodes, ownedCodes)) {
			t.Fatalf("%s\nlent  %+v %v\nowned %+v %v", batch, lent, lentCodes, owned, ownedCodes)
		}
		lender.Reclaim()
		clear(batch) // the owner's events share nothing with it
		for i := range owned {
			if e, _ := owner.Event([]byte(docs[i])); err == nil && !reflect.DeepEqual(e, owned[i]) {
				t.Fatalf("%s\n%+v, then\n%+v", docs[i], owned[i], e)
			}
		}
	})
}
