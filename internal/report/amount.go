package report

import (
	"fmt"
	"math/big"
	"strings"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// amount is an exact decimal with nine fractional digits: an integer of billionths. Sums of any number
// of quantities fit, because it grows.
type amount = *big.Int

// unit is one, in billionths.
func unit() amount { return big.NewInt(1_000_000_000) }

// parseAmount reads what ClickHouse's toString of a Decimal(_, 9) gives.
func parseAmount(s string) (amount, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	if len(fraction) > usage.Scale {
		return nil, fmt.Errorf("decimal %q has more than %d fractional digits", s, usage.Scale)
	}
	n, ok := new(big.Int).SetString(whole+fraction+strings.Repeat("0", usage.Scale-len(fraction)), 10)
	if !ok {
		return nil, fmt.Errorf("decimal %q cannot be read", s)
	}
	return n, nil
}

// formatAmount is the shortest exact decimal: "12", "-0.5".
func formatAmount(a amount) string {
	if a.Sign() == 0 {
		return "0"
	}
	digits := new(big.Int).Abs(a).String()
	if len(digits) <= usage.Scale {
		digits = strings.Repeat("0", usage.Scale-len(digits)+1) + digits
	}
	whole, fraction := digits[:len(digits)-usage.Scale], strings.TrimRight(digits[len(digits)-usage.Scale:], "0")
	if fraction != "" {
		whole += "." + fraction
	}
	if a.Sign() < 0 {
		return "-" + whole
	}
	return whole
}

// divide is a/n rounded half-even to a billionth.
func divide(a amount, n int64) amount {
	d := big.NewInt(n)
	q, m := new(big.Int).QuoRem(a, d, new(big.Int))
	switch twice := m.Abs(m).Lsh(m, 1).Cmp(d.Abs(d)); {
	case twice > 0, twice == 0 && q.Bit(0) == 1:
		if (a.Sign() < 0) != (n < 0) {
			return q.Sub(q, big.NewInt(1))
		}
		return q.Add(q, big.NewInt(1))
	}
	return q
}
