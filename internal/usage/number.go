package usage

import "strconv"

// maxExponent bounds exponents of numbers that are kept but not counted (meta_data, extra types): far
// beyond any use, small enough that arithmetic on it cannot overflow.
const maxExponent = 9999

// decimal describes a JSON number: s[first..last] are its significant digits (with at most one point
// among them), and its value is those digits as an integer times 10^exponent.
type decimal struct {
	neg         bool
	first, last int // positions of the first and last digit that is not zero
	digits      int // significant digits between them; 0 means the number is zero
	exponent    int
}

// parseDecimal reads the JSON number grammar. It reports false for anything else and for exponents
// beyond maxExponent of numbers that are not zero.
func parseDecimal[T string | []byte](s T) (decimal, bool) {
	var d decimal
	i := 0
	if len(s) > 0 && s[0] == '-' {
		d.neg = true
		i = 1
	}
	start := i
	for i < len(s) && s[i]-'0' <= 9 {
		i++
	}
	if i == start || s[start] == '0' && i > start+1 {
		return d, false
	}
	point, end := i, i
	if i < len(s) && s[i] == '.' {
		i++
		for i < len(s) && s[i]-'0' <= 9 {
			i++
		}
		if i == end+1 {
			return d, false
		}
		end = i
	}
	exp, ok := parseExponent(s[i:])
	if !ok {
		return d, false
	}
	d.first, d.last = start, end-1
	for d.first < end && (s[d.first] == '0' || s[d.first] == '.') {
		d.first++
	}
	if d.first == end {
		return decimal{}, true // zero, whatever its sign and exponent
	}
	for s[d.last] == '0' || s[d.last] == '.' {
		d.last--
	}
	d.digits = d.last - d.first + 1
	if d.first < point && d.last > point {
		d.digits--
	}
	if d.last < point {
		d.exponent = exp + point - 1 - d.last
	} else {
		d.exponent = exp - (d.last - point)
	}
	magnitude := d.exponent + d.digits
	return d, magnitude <= maxExponent && magnitude >= -maxExponent
}

// parseExponent reads "", "e5", "E-05". Longer exponents than the bound come back as the bound.
func parseExponent[T string | []byte](s T) (int, bool) {
	if len(s) == 0 {
		return 0, true
	}
	if s[0]|0x20 != 'e' {
		return 0, false
	}
	i, neg := 1, false
	if i < len(s) && (s[i] == '+' || s[i] == '-') {
		neg = s[i] == '-'
		i++
	}
	if i == len(s) {
		return 0, false
	}
	n := 0
	for ; i < len(s); i++ {
		if s[i]-'0' > 9 {
			return 0, false
		}
		n = min(n*10+int(s[i]-'0'), 1<<20) // an event is at most 64 KiB long: no mantissa brings it back
	}
	if neg {
		n = -n
	}
	return n, true
}

// appendNumber appends the one canonical spelling of a JSON number: plain notation up to 40 characters,
// else digits and an exponent. It reports false where parseDecimal does.
func appendNumber[T string | []byte](dst []byte, s T) ([]byte, bool) {
	d, ok := parseDecimal(s)
	if !ok {
		return dst, false
	}
	if d.digits == 0 {
		return append(dst, '0'), true
	}
	if d.neg {
		dst = append(dst, '-')
	}
	whole := d.digits + d.exponent // digits before the point
	if whole > 40 || whole < -20 || d.digits > 40 {
		dst = appendDigits(dst, s, d, d.digits)
		if d.exponent != 0 {
			dst = strconv.AppendInt(append(dst, 'e'), int64(d.exponent), 10)
		}
		return dst, true
	}
	if whole <= 0 {
		dst = append(dst, '0', '.')
		for range -whole {
			dst = append(dst, '0')
		}
		return appendDigits(dst, s, d, d.digits), true
	}
	dst = appendDigits(dst, s, d, whole)
	for range d.exponent {
		dst = append(dst, '0')
	}
	return dst, true
}

// appendDigits appends the significant digits with a point after the first `whole` of them.
func appendDigits[T string | []byte](dst []byte, s T, d decimal, whole int) []byte {
	n := 0
	for i := d.first; i <= d.last; i++ {
		if s[i] == '.' {
			continue
		}
		if n == whole {
			dst = append(dst, '.')
		}
		dst = append(dst, s[i])
		n++
	}
	return dst
}
