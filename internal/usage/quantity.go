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
var ErrQuantity = errors.New("quantity must be a decimal with at most 9 fractional digits and magnitude below 1e20")

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
