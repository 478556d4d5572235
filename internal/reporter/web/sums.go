package web

import (
	"math/big"
	"strings"
)

// sumOf adds exact decimals.
func sumOf(decimals []string) string {
	all, scale := scaled(decimals)
	total := new(big.Int)
	for _, n := range all[0] {
		if n != nil {
			total.Add(total, n)
		}
	}
	return plainDecimal(total, scale)
}

// plainDecimal prints n / 10^scale without zeros at the end.
func plainDecimal(n *big.Int, scale int) string {
	sign, left, fraction := digits(n, scale)
	return sign + decimal(left, fraction)
}

// digits are the parts of n / 10^scale: its sign, what is before the point, and what is after it without zeros at the end.
func digits(n *big.Int, scale int) (sign, left, fraction string) {
	text := n.String()
	if n.Sign() < 0 {
		sign, text = "-", text[1:]
	}
	if len(text) <= scale {
		text = strings.Repeat("0", scale-len(text)+1) + text
	}
	return sign, text[:len(text)-scale], strings.TrimRight(text[len(text)-scale:], "0")
}

func decimal(left, fraction string) string {
	if fraction == "" {
		return left
	}
	return left + "." + fraction
}

// change is how much now is above past, "+12.5 %"; "" where past is nothing to compare with.
func change(now, past string) string {
	all, _ := scaled([]string{now, past})
	a, b := all[0][0], all[0][1]
	if a == nil || b == nil || b.Sign() <= 0 {
		return ""
	}
	tenths := new(big.Int).Sub(a, b)
	tenths.Mul(tenths, big.NewInt(2000)).Quo(tenths, b)
	half := big.NewInt(int64(tenths.Sign())) // to the nearest, away from zero
	tenths.Add(tenths, half).Quo(tenths, big.NewInt(2))
	text := plainDecimal(tenths, 1)
	if tenths.Sign() > 0 {
		text = "+" + text
	}
	if tenths.CmpAbs(big.NewInt(99_990)) > 0 {
		return "more than ten thousand %"
	}
	return text + " %"
}

// running is the sums of the values up to each of them.
func running(values []string) []string {
	all, scale := scaled(values)
	total := new(big.Int)
	sums := make([]string, len(values))
	for i, n := range all[0] {
		if n != nil {
			total.Add(total, n)
		}
		sums[i] = plainDecimal(total, scale)
	}
	return sums
}
