package usage

import (
	"errors"
	"math/big"
	"math/bits"
)

// Scale is the number of fractional digits of a Quantity: ClickHouse Decimal(38, 9).
const Scale = 9

// Quantity is an exact decimal with nine fractional digits, a 128-bit two's complement integer of
// billionths. The zero value is 0. Values from the wire satisfy |q| < 1e20; sums stay exact up to 1.7e29.
type Quantity struct {
	Hi int64
	Lo uint64
}

// ErrQuantity marks a decimal that cannot be held exactly: not a JSON number, more than nine
// fractional digits, or |q| >= 1e20.
var ErrQuantity = errors.New("quantity must be " + quantityForm)

const quantityForm = "a decimal with at most 9 fractional digits and magnitude below 1e20"

// Int is the quantity n (whole units).
func Int(n int64) Quantity {
	neg := n < 0
	u := uint64(n)
	if neg {
		u = -u
	}
	hi, lo := bits.Mul64(u, 1_000_000_000)
	q := Quantity{Hi: int64(hi), Lo: lo}
	if neg {
		return q.Neg()
	}
	return q
}

// Add is q + o, wrapping beyond 128 bits; callers bound the number of terms.
func (q Quantity) Add(o Quantity) Quantity {
	lo, carry := bits.Add64(q.Lo, o.Lo, 0)
	hi, _ := bits.Add64(uint64(q.Hi), uint64(o.Hi), carry)
	return Quantity{Hi: int64(hi), Lo: lo}
}

// Sub is q - o.
func (q Quantity) Sub(o Quantity) Quantity { return q.Add(o.Neg()) }

// Neg is -q.
func (q Quantity) Neg() Quantity {
	lo, borrow := bits.Sub64(0, q.Lo, 0)
	hi, _ := bits.Sub64(0, uint64(q.Hi), borrow)
	return Quantity{Hi: int64(hi), Lo: lo}
}

// Cmp is -1, 0 or 1.
func (q Quantity) Cmp(o Quantity) int {
	switch {
	case q.Hi < o.Hi:
		return -1
	case q.Hi > o.Hi:
		return 1
	case q.Lo < o.Lo:
		return -1
	case q.Lo > o.Lo:
		return 1
	}
	return 0
}

// IsZero reports q == 0.
func (q Quantity) IsZero() bool { return q.Hi == 0 && q.Lo == 0 }

// Sign is -1, 0 or 1.
func (q Quantity) Sign() int { return q.Cmp(Quantity{}) }

// Big is the quantity in billionths.
func (q Quantity) Big() *big.Int {
	b := new(big.Int).Lsh(big.NewInt(q.Hi), 64)
	return b.Add(b, new(big.Int).SetUint64(q.Lo))
}

// maxDigits is the number of decimal digits of the largest wire value in billionths: 1e20 - 1e-9.
const maxDigits = 29

// ParseQuantity reads a JSON number or the same text as a decimal string, exactly. Spellings do not
// matter (1, 1.0, 1e0); what cannot be held without rounding is ErrQuantity.
func ParseQuantity(b []byte) (Quantity, error) { return parseQuantity(b) }

func parseQuantity[T string | []byte](s T) (Quantity, error) {
	i, neg := 0, false
	if len(s) > 0 && s[0] == '-' {
		i, neg = 1, true
	}
	var m uint64 // at most 18 digits, so it cannot overflow
	start := i
	for i < len(s) && s[i]-'0' <= 9 && i-start < 18 {
		m = m*10 + uint64(s[i]-'0')
		i++
	}
	whole := i - start
	if whole == 0 || whole > 1 && s[start] == '0' {
		return Quantity{}, ErrQuantity
	}
	frac := 0
	if i < len(s) && s[i] == '.' {
		i++
		for i < len(s) && s[i]-'0' <= 9 && whole+frac < 18 {
			m = m*10 + uint64(s[i]-'0')
			i++
			frac++
		}
		if frac == 0 {
			return parseLongQuantity(s)
		}
	}
	if i < len(s) || frac > Scale {
		return parseLongQuantity(s)
	}
	hi, lo := bits.Mul64(m, pow10[Scale-frac])
	q := Quantity{Hi: int64(hi), Lo: lo}
	if neg {
		return q.Neg(), nil
	}
	return q, nil
}

// parseLongQuantity reads what the short loop does not: exponents, more than 18 digits, trailing zeros.
func parseLongQuantity[T string | []byte](s T) (Quantity, error) {
	d, ok := parseDecimal(s)
	if !ok {
		return Quantity{}, ErrQuantity
	}
	if d.digits == 0 {
		return Quantity{}, nil
	}
	shift := d.exponent + Scale
	if shift < 0 || d.digits+shift > maxDigits {
		return Quantity{}, ErrQuantity
	}
	var q Quantity
	for i := d.first; i <= d.last; i++ {
		if c := s[i]; c != '.' {
			q = q.times10().Add(Quantity{Lo: uint64(c - '0')})
		}
	}
	for range shift {
		q = q.times10()
	}
	if d.neg {
		return q.Neg(), nil
	}
	return q, nil
}

// times10 is q × 10 for 0 <= q < 2^123.
func (q Quantity) times10() Quantity {
	hi, lo := bits.Mul64(q.Lo, 10)
	return Quantity{Hi: q.Hi*10 + int64(hi), Lo: lo}
}

// String is the shortest exact decimal without exponent: "12", "-0.5".
func (q Quantity) String() string {
	var b [48]byte
	return string(q.Append(b[:0]))
}

// Append appends String to dst.
func (q Quantity) Append(dst []byte) []byte {
	if q.Hi < 0 {
		dst = append(dst, '-')
		q = q.Neg() // -2^127 stays itself, which is its magnitude when read unsigned
	}
	// |q| <= 2^127 < 1.8e19 × 1e19, so both halves fit a word and Div64 cannot overflow.
	high, low := bits.Div64(uint64(q.Hi), q.Lo, 1e19)
	var d [39]byte
	for i := 38; i >= 20; i-- {
		d[i] = byte('0' + low%10)
		low /= 10
	}
	for i := 19; i >= 0; i-- {
		d[i] = byte('0' + high%10)
		high /= 10
	}
	first, point, end := 0, len(d)-Scale, len(d)
	for first < point-1 && d[first] == '0' {
		first++
	}
	for end > point && d[end-1] == '0' {
		end--
	}
	dst = append(dst, d[first:point]...)
	if end > point {
		dst = append(dst, '.')
		dst = append(dst, d[point:end]...)
	}
	return dst
}

var pow10 = [...]uint64{1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9}
