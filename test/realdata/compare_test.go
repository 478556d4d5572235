//go:build realdata

package realdata

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// figures is a summary: the same shape on both sides, numbers as exact text.
type figures map[string]any

// summary reads summary.json of a data set.
func (s *system) summary(t *testing.T, set string) figures {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.data, set, "summary.json"))
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var f figures
	if err := dec.Decode(&f); err != nil {
		t.Fatal(err)
	}
	return f
}

// leaves flattens figures to path → exact text.
func leaves(prefix string, v any, out map[string]string) map[string]string {
	switch v := v.(type) {
	case figures:
		for k, x := range v {
			leaves(prefix+"/"+k, x, out)
		}
	case map[string]any:
		for k, x := range v {
			leaves(prefix+"/"+k, x, out)
		}
	default:
		out[prefix] = fmt.Sprint(v)
	}
	return out
}

// same fails for every figure of the summary that was not answered, or answered otherwise, and for
// every figure answered that the summary does not have.
func same(t *testing.T, want, got figures) {
	t.Helper()
	w, g := leaves("", want, map[string]string{}), leaves("", got, map[string]string{})
	bad := 0
	for _, path := range slices.Sorted(maps.Keys(w)) {
		if have, ok := g[path]; !ok || have != w[path] {
			if bad++; bad <= 20 {
				t.Errorf("%s: %q, want %q", path, have, w[path])
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(g)) {
		if _, ok := w[path]; !ok {
			if bad++; bad <= 20 {
				t.Errorf("%s: %q is not in the summary", path, g[path])
			}
		}
	}
	t.Logf("%d figures compared, %d differ", len(w), bad)
}

// decimal and text are exact decimals with nine digits.
func decimal(s string) *big.Int {
	whole, frac, _ := strings.Cut(s, ".")
	n, ok := new(big.Int).SetString(whole+(frac + "000000000")[:9], 10)
	if !ok {
		panic("not a decimal: " + s)
	}
	return n
}

func text(n *big.Int) string {
	digits := new(big.Int).Abs(n).String()
	for len(digits) < 10 {
		digits = "0" + digits
	}
	s := digits[:len(digits)-9]
	if frac := strings.TrimRight(digits[len(digits)-9:], "0"); frac != "" {
		s += "." + frac
	}
	if n.Sign() < 0 {
		s = "-" + s
	}
	return s
}

// sumBy adds quantities by the first n characters of their time.
func sumBy(parts map[string]string, n int) map[string]string {
	sums := map[string]*big.Int{}
	for at, q := range parts {
		if sums[at[:n]] == nil {
			sums[at[:n]] = new(big.Int)
		}
		sums[at[:n]].Add(sums[at[:n]], decimal(q))
	}
	out := map[string]string{}
	for at, sum := range sums {
		out[at] = text(sum)
	}
	return out
}

// keep cuts the keys of windows to the first n characters.
func keep(windows map[string]string, n int) map[string]string {
	out := map[string]string{}
	for at, q := range windows {
		out[at[:n]] = q
	}
	return out
}

// equal compares two maps of figures.
func equal(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
