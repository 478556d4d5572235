package sheet

import (
	"math/bits"
	"strconv"
	"strings"
)

// digits takes a decimal apart: its sign, and the digits before and after the point without zeros that change
// nothing. false: it is no decimal in canonical form.
func digits(cell string) (negative bool, whole, fraction string, ok bool) {
	cell, negative = strings.CutPrefix(cell, "-")
	whole, fraction, dotted := strings.Cut(cell, ".")
	if whole == "" || dotted && fraction == "" || !numeric(whole) || !numeric(fraction) {
		return false, "", "", false
	}
	return negative, strings.TrimLeft(whole, "0"), strings.TrimRight(fraction, "0"), true
}

func numeric(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

const (
	decimalPrecision = 38
	decimalScale     = 9
	decimalBytes     = 16
)

// appendDecimal appends a decimal as 16 bytes of DECIMAL(38,9): an integer of billionths, two's complement, most
// significant byte first. false: it does not fit.
func appendDecimal(b []byte, cell string) ([]byte, bool) {
	negative, whole, fraction, ok := digits(cell)
	if !ok || len(whole) > decimalPrecision-decimalScale || len(fraction) > decimalScale {
		return b, false
	}
	var high, low uint64
	shift := func(s string) {
		for i := range len(s) {
			over, product := bits.Mul64(low, 10)
			var carry uint64
			low, carry = bits.Add64(product, uint64(s[i]-'0'), 0)
			high = high*10 + over + carry
		}
	}
	shift(whole)
	shift(fraction)
	shift("000000000"[len(fraction):])
	if negative {
		var carry uint64
		low, carry = bits.Add64(^low, 1, 0)
		high = ^high + carry
	}
	for i := 56; i >= 0; i -= 8 {
		b = append(b, byte(high>>i))
	}
	for i := 56; i >= 0; i -= 8 {
		b = append(b, byte(low>>i))
	}
	return b, true
}

// whole is the value of an integer; false: it is none, or too large.
func whole(cell string) (int64, bool) {
	n, err := strconv.ParseInt(cell, 10, 64)
	return n, err == nil
}
