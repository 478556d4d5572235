package usage

import "math/big"

// Piece is the part of a metered span that falls into one UTC day and on one side of the trial's end.
type Piece struct {
	Start, End Instant
	Quantity   Quantity
	Trial      bool // Start < TrialExpiry
}

const (
	dayNanos   = int64(86_400_000_000_000)
	pieceUnits = 1000 // billionths in the last digit of a piece's quantity: six decimals
)

// Cut divides usage with start and end at UTC midnights and at trial_expiry.
// Each piece but the last gets quantity × part/whole rounded half-even to six decimals; the last
// takes the remainder, so the pieces sum to the quantity exactly. nil without a span.
func (m *Metered) Cut() []Piece {
	if !m.Start.Known() || !m.End.Known() || m.End.ns <= m.Start.ns {
		return nil
	}
	borders := (m.End.ns-1)/dayNanos - m.Start.ns/dayNanos
	pieces := make([]Piece, 0, borders+2)
	rest := m.Quantity
	for at := m.Start.ns; at < m.End.ns; {
		next := min((at/dayNanos+1)*dayNanos, m.End.ns)
		if x := m.TrialExpiry; x.Known() && at < x.ns && x.ns < next {
			next = x.ns
		}
		p := Piece{Start: At(at), End: At(next), Quantity: rest, Trial: m.Trial(At(at))}
		if next < m.End.ns {
			p.Quantity = share(m.Quantity, next-at, m.End.ns-m.Start.ns)
			rest = rest.Sub(p.Quantity)
		}
		pieces = append(pieces, p)
		at = next
	}
	return pieces
}

// Trial reports whether usage at an instant is under trial by the event's own word.
func (m *Metered) Trial(at Instant) bool { return m.TrialExpiry.Known() && at.Before(m.TrialExpiry) }

// share is q × part/whole, rounded half-even to six decimals. big.Int because the product has up to
// 153 bits; records that cross a border are rare.
func share(q Quantity, part, whole int64) Quantity {
	n := q.Big()
	neg := n.Sign() < 0
	n.Abs(n).Mul(n, big.NewInt(part))
	d := new(big.Int).Mul(big.NewInt(whole), big.NewInt(pieceUnits))
	quotient, remainder := n.QuoRem(n, d, new(big.Int))
	switch remainder.Lsh(remainder, 1).Cmp(d) {
	case 1:
		quotient.Add(quotient, big.NewInt(1))
	case 0:
		if quotient.Bit(0) == 1 {
			quotient.Add(quotient, big.NewInt(1))
		}
	}
	quotient.Mul(quotient, big.NewInt(pieceUnits))
	var lo, hi big.Int
	lo.And(quotient, maxUint64)
	hi.Rsh(quotient, 64)
	r := Quantity{Hi: hi.Int64(), Lo: lo.Uint64()}
	if neg {
		return r.Neg()
	}
	return r
}

var maxUint64 = new(big.Int).SetUint64(1<<64 - 1)
