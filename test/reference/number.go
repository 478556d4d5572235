package reference

import (
	"math/big"
	"strings"
	"time"
)

const day = int64(86_400_000)

// shortest prints an exact decimal of at most nine digits.
func shortest(r *big.Rat) string {
	text := r.FloatString(9)
	text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	if text == "-0" {
		return "0"
	}
	return text
}

// atLeastSix prints six decimals, or more where there are more.
func atLeastSix(r *big.Rat) string {
	text := shortest(r)
	whole, fraction, _ := strings.Cut(text, ".")
	return whole + "." + fraction + strings.Repeat("0", max(0, 6-len(fraction)))
}

// halfEven rounds to a number of digits, a half to the even one.
func halfEven(r *big.Rat, digits int64) *big.Rat {
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(digits), nil)
	scaled := new(big.Rat).Mul(r, new(big.Rat).SetInt(scale))
	floor, rest := new(big.Int).DivMod(scaled.Num(), scaled.Denom(), new(big.Int))
	switch twice := rest.Lsh(rest, 1); twice.Cmp(scaled.Denom()) {
	case 1:
		floor.Add(floor, big.NewInt(1))
	case 0:
		floor.Add(floor, big.NewInt(int64(floor.Bit(0))))
	}
	return new(big.Rat).SetFrac(floor, scale)
}

// cents prints an amount of money.
func cents(r *big.Rat) string { return halfEven(r, 2).FloatString(2) }

func dateOf(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.DateOnly) }

// stamp prints an instant; 0 is none.
func stamp(ms int64) string {
	if ms == 0 {
		return ""
	}
	if ms%1000 != 0 {
		return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05Z")
}

// Month is the first instant of a month and of the next.
func Month(month string) (from, to int64) {
	t, _ := time.Parse("2006-01", month)
	return t.UnixMilli(), t.AddDate(0, 1, 0).UnixMilli()
}

func boolean(b bool) string {
	if b {
		return "TRUE"
	}
	return "FALSE"
}
