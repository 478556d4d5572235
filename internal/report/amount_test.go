package report

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// Amounts that fit 64 bits take a shorter way than others: both print and read the same.
func TestAmountsArePrintedAndRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.StringMatching(`-?[0-9]{1,40}`).Draw(t, "billionths")
		a, _ := new(big.Int).SetString(digits, 10)
		text := formatAmount(a)
		// Written independently: a fraction, printed in full and then cut.
		want := new(big.Rat).SetFrac(a, unit()).FloatString(usage.Scale)
		want = strings.TrimSuffix(strings.TrimRight(want, "0"), ".")
		if want == "-0" || want == "" {
			want = "0"
		}
		if text != want {
			t.Fatalf("%s billionths: %q, want %q", digits, text, want)
		}
		again, err := parseAmount(text)
		if err != nil || again.Cmp(a) != 0 {
			t.Fatalf("%q is read as %v, %v; want %v", text, again, err, a)
		}
	})
	for _, text := range []string{"1.0000000001", "1.-5", "--1", "1e3", "1.2.3", " 1", "999999999999999999x", "½"} {
		if a, err := parseAmount(text); err == nil {
			t.Errorf("%q is read as %v", text, a)
		}
	}
}

// Instants of the years 0 to 9999 are printed as the standard library does.
func TestInstantsArePrinted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.Int64Range(-62_167_219_200_000, 253_402_300_799_999).Draw(t, "ms")
		if rapid.Bool().Draw(t, "whole") {
			ms = ms / 1000 * 1000
		}
		want := time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
		if ms%1000 == 0 {
			want = time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05Z")
		}
		if ms == 0 {
			want = ""
		}
		if have := Instant(ms).String(); have != want {
			t.Fatalf("%d: %q, want %q", ms, have, want)
		}
	})
}
