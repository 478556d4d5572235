package report

import (
	"bytes"
	"fmt"
	"math/big"
	"strconv"
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
	if n, ok := parseSmall(s); ok {
		return big.NewInt(n), nil
	}
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

// smallDigits is how many digits every int64 can hold.
const smallDigits = 18

// parseSmall reads what fits 64 bits, as nearly everything does, without the detour over texts.
func parseSmall(s string) (int64, bool) {
	digits, negative := s, strings.HasPrefix(s, "-")
	if negative {
		digits = s[1:]
	}
	whole := len(digits)
	if point := strings.IndexByte(digits, '.'); point >= 0 {
		whole = point
	}
	if whole == 0 || whole > smallDigits-usage.Scale || len(digits)-whole-1 > usage.Scale {
		return 0, false
	}
	n, scale := int64(0), usage.Scale
	for i := range len(digits) {
		if i == whole {
			continue
		}
		if digits[i] < '0' || digits[i] > '9' {
			return 0, false
		}
		if n = n*10 + int64(digits[i]-'0'); i > whole {
			scale--
		}
	}
	for range scale {
		n *= 10
	}
	if negative {
		n = -n
	}
	return n, true
}

// formatSmall prints what is below 10^18 in either direction; "" for others.
func formatSmall(a amount) string {
	if a.BitLen() > smallBits {
		return ""
	}
	n := a.Int64()
	var text, digits [smallDigits + 3]byte // with sign, point and a zero before it
	out := text[:0]
	if n < 0 {
		out, n = append(out, '-'), -n
	}
	out = strconv.AppendInt(out, n/smallUnit, 10)
	if fraction := n % smallUnit; fraction != 0 {
		behind := strconv.AppendInt(digits[:0], smallUnit+fraction, 10) // 1 and nine digits: the 1 becomes the point
		behind[0] = '.'
		out = append(out, bytes.TrimRight(behind, "0")...)
	}
	return string(out)
}

// smallBits are those of every number below 10^18, and smallUnit is unit.
const (
	smallBits = 59
	smallUnit = 1_000_000_000
)

// formatAmount is the shortest exact decimal: "12", "-0.5".
func formatAmount(a amount) string {
	if a.Sign() == 0 {
		return "0"
	}
	if small := formatSmall(a); small != "" {
		return small
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
