package eventlog

import (
	"encoding/binary"
	"math/bits"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// Wire types of protobuf that the chunk format uses.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
)

// uvarint reads a varint at b[i:]. It answers the index after it, or -1 when it is cut off or too long.
func uvarint(b []byte, i int) (uint64, int) {
	if i < len(b) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	return uvarintLong(b, i)
}

func uvarintLong(b []byte, i int) (uint64, int) {
	var v uint64
	for shift := uint(0); shift < 64 && i < len(b); shift += 7 {
		c := b[i]
		i++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if shift == 63 && c > 1 {
				return 0, -1
			}
			return v, i
		}
	}
	return 0, -1
}

func zigzag(n int64) uint64   { return uint64(n)<<1 ^ uint64(n>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// packed is the largest zigzag mantissa that leaves room for the exponent.
const packedMax = (1<<64 - 10) / 10

// packQuantity is zigzag(m)*10 + e with q = m * 10^-e; not ok when that needs more than 64 bits.
func packQuantity(q usage.Quantity) (uint64, bool) {
	neg := q.Hi < 0
	if neg {
		q = q.Neg()
	}
	if q.Hi < 0 || uint64(q.Hi) >= 1e9 {
		return 0, false
	}
	exp := uint64(0)
	m, rest := bits.Div64(uint64(q.Hi), q.Lo, 1e9)
	if rest != 0 {
		if q.Hi != 0 {
			return 0, false
		}
		m, exp = q.Lo, 9
		for m%10 == 0 {
			m /= 10
			exp--
		}
	}
	if m > packedMax>>1 {
		return 0, false
	}
	u := m << 1
	if neg {
		u--
	}
	return u*10 + exp, true
}

func unpackQuantity(v uint64) usage.Quantity {
	m, pow := unzigzag(v/10), uint64(1)
	for e := v % 10; e < 9; e++ {
		pow *= 10
	}
	neg := m < 0
	if neg {
		m = -m
	}
	hi, lo := bits.Mul64(uint64(m), pow)
	q := usage.Quantity{Hi: int64(hi), Lo: lo}
	if neg {
		return q.Neg()
	}
	return q
}

func appendWide(b []byte, q usage.Quantity) []byte {
	b = binary.LittleEndian.AppendUint64(b, q.Lo)
	return binary.LittleEndian.AppendUint64(b, uint64(q.Hi))
}

func wide(b []byte) usage.Quantity {
	return usage.Quantity{Lo: binary.LittleEndian.Uint64(b), Hi: int64(binary.LittleEndian.Uint64(b[8:]))}
}

const uuidText = 36

// parseUUID reads a UUID in canonical lower-case text; not ok for anything else.
func parseUUID(s string) (hi, lo uint64, ok bool) {
	if len(s) != uuidText || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return 0, 0, false
	}
	a, ok1 := unhex8(be64(s))
	b, ok2 := unhex8(be32(s[9:])<<32 | be32(s[14:]))
	c, ok3 := unhex8(be32(s[19:])<<32 | be32(s[24:]))
	d, ok4 := unhex8(be64(s[28:]))
	return a<<32 | b, c<<32 | d, ok1 && ok2 && ok3 && ok4
}

func be32(s string) uint64 {
	_ = s[3]
	return uint64(s[0])<<24 | uint64(s[1])<<16 | uint64(s[2])<<8 | uint64(s[3])
}

func be64(s string) uint64 {
	_ = s[7]
	return uint64(s[0])<<56 | uint64(s[1])<<48 | uint64(s[2])<<40 | uint64(s[3])<<32 |
		uint64(s[4])<<24 | uint64(s[5])<<16 | uint64(s[6])<<8 | uint64(s[7])
}

// unhex8 is the inverse of hex8: eight digits in big-endian ASCII. The value of a digit is its low nibble,
// and 9 more for a letter; whether all eight were digits is told by writing them again.
func unhex8(x uint64) (v uint64, ok bool) {
	n := x&0x0f0f0f0f_0f0f0f0f + 9*(x>>6&0x01010101_01010101)
	n = (n | n>>4) & 0x00ff00ff_00ff00ff
	n = (n | n>>8) & 0x0000ffff_0000ffff
	n = (n | n>>16) & 0xffffffff
	return n, hex8(uint32(n)) == x
}

// putUUID writes the text form of the 16 bytes u into dst, eight digits at a time.
func putUUID(dst []byte, u []byte) {
	_, _ = dst[uuidText-1], u[15]
	a := hex8(binary.BigEndian.Uint32(u))
	b := hex8(binary.BigEndian.Uint32(u[4:]))
	c := hex8(binary.BigEndian.Uint32(u[8:]))
	d := hex8(binary.BigEndian.Uint32(u[12:]))
	binary.BigEndian.PutUint64(dst, a)
	dst[8] = '-'
	binary.BigEndian.PutUint32(dst[9:], uint32(b>>32))
	dst[13] = '-'
	binary.BigEndian.PutUint32(dst[14:], uint32(b))
	dst[18] = '-'
	binary.BigEndian.PutUint32(dst[19:], uint32(c>>32))
	dst[23] = '-'
	binary.BigEndian.PutUint32(dst[24:], uint32(c))
	binary.BigEndian.PutUint64(dst[28:], d)
}

// hex8 is the eight lower-case hexadecimal digits of v as big-endian ASCII: the nibbles are spread to one a
// byte, then digits above 9 are moved from ':' to 'a' in all eight lanes at once.
func hex8(v uint32) uint64 {
	x := uint64(v)
	x = (x<<16 | x) & 0x0000ffff_0000ffff
	x = (x<<8 | x) & 0x00ff00ff_00ff00ff
	x = (x<<4 | x) & 0x0f0f0f0f_0f0f0f0f
	above := (x + 0x06060606_06060606) >> 4 & 0x01010101_01010101
	return x + 0x30303030_30303030 + above*('a'-'9'-1)
}
