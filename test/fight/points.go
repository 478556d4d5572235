package fight

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

// CrashPoints lists the names of all crash points in some packages, from their source: a point that is
// added is tested, and one that no run reaches is a failure.
func CrashPoints(t *testing.T, packages ...string) []string {
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

// AggregatorPoints are the crash points that a life of the aggregator reaches: all of its own and of the warehouse
// but that of the migrator, which test/upgrade kills.
func AggregatorPoints(t *testing.T) []string {
	return slices.DeleteFunc(CrashPoints(t, "aggregator", "warehouse"), func(name string) bool { return name == "warehouse/migrated" })
}

// KillAtPoints lets a part die at each of its crash points, some of them at a later hit.
func (f *Fight) KillAtPoints(part *rig.Part, names []string, each int) {
	f.T.Helper()
	for range each {
		f.Rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, name := range names {
			n := 1
			if !strings.HasPrefix(name, "warehouse/") || strings.Contains(name, "insert") { // taking over happens once a life
				n += f.Rnd.IntN(8)
			}
			at := fmt.Sprintf("%s:%d", name, n)
			f.T.Logf("dies at %s", at)
			f.Dies(part, "at "+at, faultpoint.Variable+"="+at)
		}
	}
	f.Recovered()
}

// Dies gives a part a life that ends as armed, and waits until it has. One that does not end reached
// nothing of what it was armed with: a crash point that no run reaches proves nothing.
func (f *Fight) Dies(part *rig.Part, how string, arms ...string) {
	f.T.Helper()
	f.Rig.Until(part.Name+" lives", rig.SettleWait, func(context.Context) bool { return part.Alive() })
	before := part.Doom(arms...)
	f.Rig.Until(part.Name+" dies "+how, rig.SettleWait, func(context.Context) bool { return part.Dooms() > before })
}
