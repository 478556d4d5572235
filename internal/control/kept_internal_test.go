package control

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
)

type keptThing struct {
	subject  string
	revision uint64
}

// TestKeptKnowsItsOwn: what a process wrote itself it knows at once and goes on to know, also when it was written while
// everything is loaded anew from a state before it; what is gone from there goes.
func TestKeptKnowsItsOwn(t *testing.T) {
	t.Parallel()
	k := &kept[keptThing]{
		log: zap.NewNop(), items: map[string]keptThing{}, fresh: map[string]keptThing{}, ready: make(chan struct{}),
		decode: func(revision uint64, data []byte) (keptThing, error) { return keptThing{string(data), revision}, nil },
		name:   func(one keptThing) (string, uint64) { return one.subject, one.revision },
	}
	f := &keptFollower[keptThing]{kept: k}
	load := func(things ...keptThing) {
		f.begin()
		for _, one := range things {
			f.apply(one.subject, one.revision, "", []byte(one.subject))
		}
	}
	want := func(what string) {
		t.Helper()
		var all []string
		for _, subject := range slices.Sorted(maps.Keys(k.items)) {
			all = append(all, fmt.Sprint(subject, k.items[subject].revision))
		}
		if got := strings.Join(all, " "); got != what {
			t.Errorf("knows %q, want %q", got, what)
		}
	}
	load(keptThing{"a", 1})
	k.put(keptThing{"b", 7})
	want("b7")
	f.synced()
	want("a1 b7")
	k.put(keptThing{"c", 8})
	f.lost()
	k.put(keptThing{"a", 9})
	load(keptThing{"a", 1}, keptThing{"c", 8})
	k.put(keptThing{"d", 10})
	k.put(keptThing{"c", 11})
	f.apply("c", 12, "", []byte("c"))
	f.synced()
	want("a9 c12 d10") // b is gone
	f.apply("a", 9, "", []byte("a"))
	want("a9 c12 d10")
}
