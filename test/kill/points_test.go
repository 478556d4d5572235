package kill_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/test/rig"
)

// crashPoints lists the names of all crash points in some packages, from their source: a point that is
// added is tested, and one that no run reaches is a failure.
func crashPoints(t *testing.T, packages ...string) []string {
	t.Helper()
	hit := regexp.MustCompile(`faultpoint\.Hit\("([^"]+)"\)`)
	var names []string
	for _, pkg := range packages {
		files, err := filepath.Glob(filepath.Join("..", "..", "internal", pkg, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no source of %s: %v", pkg, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range hit.FindAllStringSubmatch(string(text), -1) {
				names = append(names, m[1])
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// killAtPoints lets a part die at each of its crash points, some of them at a later hit.
func (f *fight) killAtPoints(part *rig.Part, names []string, each int) {
	f.t.Helper()
	for range each {
		f.rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, name := range names {
			n := 1
			if !strings.HasPrefix(name, "warehouse/") || strings.Contains(name, "insert") { // taking over happens once a life
				n += f.rnd.IntN(8)
			}
			at := fmt.Sprintf("%s:%d", name, n)
			f.t.Logf("dies at %s", at)
			f.dies(part, "at "+at, faultpoint.Variable+"="+at)
		}
	}
	f.recovered()
}

// dies gives a part a life that ends as armed, and waits until it has. One that does not end reached
// nothing of what it was armed with: a crash point that no run reaches proves nothing.
func (f *fight) dies(part *rig.Part, how string, arms ...string) {
	f.t.Helper()
	f.rig.Until(part.Name+" lives", rig.SettleWait, func(context.Context) bool { return part.Alive() })
	before := part.Dooms()
	part.Arm(arms...)
	part.Kill()
	f.rig.Until(part.Name+" dies "+how, rig.SettleWait, func(context.Context) bool { return part.Dooms() > before })
}

// F01: ingest dies at every crash point.
func TestF01CrashPointsOfIngest(t *testing.T) {
	names := crashPoints(t, "ingest")
	f := begin(t, "F01p", rig.Options{})
	f.killAtPoints(f.rig.Ingest, names, rounds(1, 20))
	f.end()
}

// F02: the aggregator dies at every crash point: read, decided, owner row written, earlier inserts killed,
// watermarks read, before and after any insert, before the ledger, after it.
func TestF02CrashPointsOfAggregator(t *testing.T) {
	names := crashPoints(t, "aggregator", "warehouse")
	f := begin(t, "F02p", rig.Options{})
	f.killAtPoints(f.rig.Aggregators[0], names, rounds(1, 20))
	f.end()
}
