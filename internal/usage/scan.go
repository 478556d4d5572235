package usage

import (
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode/utf8"
)

// memberEnd is what member answers after the last one, and memberBad where the fast path ends. No bit of a
// member is either.
const (
	memberEnd = 0
	memberBad = -1
)

// Objects with members that are known.
const (
	routeEvent = iota
	routeData
	routeAsset
	routeConsumer
	routes
)

// route is how the last object of its kind was written, member by member: the next one is nearly always
// written the same way, and comparing is cheaper than reading.
type route [16]step

// step is one member's name as written, from its first quote to the colon.
type step struct {
	text [23]byte
	size uint8
	bit  int
}

// member reads up to the value of member i of an object and answers its bit.
func (s *scanner) member(object, i int) int {
	c := s.next()
	switch {
	case i == 0 && c == '{':
		s.pos++
		if c = s.next(); c == '}' {
			s.pos++
			return memberEnd
		}
	case i > 0 && c == ',':
		s.pos++
		s.next()
	case i > 0 && c == '}':
		s.pos++
		return memberEnd
	default:
		return memberBad
	}
	start := s.pos
	var last *step
	if i < len(s.routes[object]) {
		last = &s.routes[object][i]
		if n := int(last.size); n > 0 && start+n <= len(s.doc) && string(s.doc[start:start+n]) == string(last.text[:n]) {
			s.pos = start + n
			s.next()
			return last.bit
		}
	}
	name, ok := s.str()
	if !ok || s.next() != ':' {
		return memberBad
	}
	s.pos++
	bit := memberBit(object, name)
	if last != nil && bit > 0 && s.pos-start <= len(last.text) {
		last.size, last.bit = uint8(copy(last.text[:], s.doc[start:s.pos])), bit
	}
	s.next()
	return bit
}

func memberBit(object int, name string) int {
	switch object {
	case routeEvent:
		return eventBit(name)
	case routeData:
		return dataBit(name)
	}
	switch name {
	case "id":
		return seenPartID
	case "name":
		if object == routeAsset {
			return seenPartName
		}
	case "type":
		return seenPartType
	}
	return memberBad
}

func eventBit(name string) int {
	switch name {
	case "specversion":
		return seenSpec
	case "id":
		return seenID
	case "source":
		return seenSource
	case "type":
		return seenType
	case "subject":
		return seenSubject
	case "time":
		return seenTime
	case "datacontenttype":
		return seenContentType
	case "correlationid":
		return seenCorrelation
	case "causationid":
		return seenCausation
	case "traceparent":
		return seenTrace
	case "recordedtime":
		return seenRecorded
	case "data":
		return seenData
	}
	return memberBad
}

func dataBit(name string) int {
	switch name {
	case "meter":
		return seenMeter
	case "quantity":
		return seenQuantity
	case "unit":
		return seenUnit
	case "asset":
		return seenAsset
	case "start":
		return seenStart
	case "end":
		return seenEnd
	case "region":
		return seenRegion
	case "platform":
		return seenPlatform
	case "trial_expiry":
		return seenTrial
	case "consumer":
		return seenConsumer
	case "item":
		return seenItem
	case "item_version":
		return seenVersion
	case "plan":
		return seenPlan
	case "dimensions":
		return seenDimensions
	case "source_seq":
		return seenSeq
	}
	return memberBad
}

// literal reads exactly this text.
func (s *scanner) literal(text string) bool {
	if !strings.HasPrefix(s.text[s.pos:], text) {
		return false
	}
	s.pos += len(text)
	return true
}

// memberName reads up to the next member's value, or past the end of the object (more is false).
func (s *scanner) memberName(first bool) (name string, more, ok bool) {
	c := s.next()
	switch {
	case first && c == '{':
		s.pos++
		if c = s.next(); c == '}' {
			s.pos++
			return "", false, true
		}
	case !first && c == ',':
		s.pos++
		s.next()
	case !first && c == '}':
		s.pos++
		return "", false, true
	default:
		return "", false, false
	}
	if name, ok = s.str(); !ok || s.next() != ':' {
		return "", false, false
	}
	s.pos++
	s.next()
	return name, true, true
}

// next skips white space and returns the byte there, 0 at the end.
func (s *scanner) next() byte {
	for s.pos < len(s.doc) {
		c := s.doc[s.pos]
		if c > ' ' || c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			return c
		}
		s.pos++
	}
	return 0
}

// str reads a string without escapes.
func (s *scanner) str() (string, bool) {
	doc, i := s.doc, s.pos
	if i >= len(doc) || doc[i] != '"' {
		return "", false
	}
	i++
	start := i
	s.ascii = true
	for i+8 <= len(doc) {
		if m := specialBytes(binary.LittleEndian.Uint64(doc[i:])); m != 0 {
			i += bits.TrailingZeros64(m) >> 3
			break
		}
		i += 8
	}
	for ; i < len(doc); i++ {
		switch c := doc[i]; {
		case c == '"':
			v := s.text[start:i]
			s.pos = i + 1
			return v, s.ascii || utf8.ValidString(v)
		case c >= utf8.RuneSelf:
			s.ascii = false
		case c < 0x20 || c == '\\' || c == 0x7f:
			return "", false
		}
	}
	return "", false
}

// specialBytes marks, in the top bit of each of eight bytes, those that str must look at: the closing
// quote, backslash, control characters, DEL and everything beyond ASCII. Marks above the lowest may be
// wrong (a borrow runs upwards), the lowest is exact.
func specialBytes(w uint64) uint64 {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	quote := w ^ ones*'"'
	slash := w ^ ones*'\\'
	del := w ^ ones*0x7f
	return ((w-ones*0x20)&^w | (quote-ones)&^quote | (slash-ones)&^slash | (del-ones)&^del | w) & tops
}

func (s *scanner) set(to *string) (ok bool) {
	*to, ok = s.str()
	return ok
}

// attribute reads a non-empty CloudEvents String.
func (s *scanner) attribute(to *string) bool {
	v, ok := s.str()
	*to = v
	return ok && v != "" && (s.ascii || isPrintable(v))
}

func (s *scanner) uri(to *string) bool {
	v, ok := s.str()
	if !ok {
		return false
	}
	for i := range s.sources {
		if s.sources[i] == v && v != "" {
			*to = s.sources[i]
			return true
		}
	}
	if !isURIReference(v) {
		return false
	}
	if !s.lends {
		v = strings.Clone(v)
	}
	s.sources[s.source%len(s.sources)] = v
	s.source++
	*to = v
	return true
}

func (s *scanner) instant(to *Instant) bool {
	v, ok := s.str()
	if !ok {
		return false
	}
	i, err := ParseInstant(v)
	*to = i
	return err == nil
}

func (s *scanner) quantity(to *Quantity) bool {
	v, ok := s.number()
	if !ok {
		if v, ok = s.str(); !ok {
			return false
		}
	}
	q, err := parseQuantity(v)
	*to = q
	return err == nil
}

// number reads what looks like a number; whoever parses it checks the grammar.
func (s *scanner) number() (string, bool) {
	i := s.pos
	for i < len(s.doc) && (s.doc[i]-'0' <= 9 || s.doc[i] == '.' || s.doc[i] == '-' || s.doc[i] == '+' || s.doc[i]|0x20 == 'e') {
		i++
	}
	v := s.text[s.pos:i]
	s.pos = i
	return v, v != ""
}

// sequence reads source_seq in its canonical spelling, the only member that stays in Event.Data.
func (s *scanner) sequence(rest *string) bool {
	v, ok := s.number()
	if !ok || len(v) > 18 || !isDigits(v) || v[0] == '0' && len(v) > 1 {
		return false
	}
	*rest = `{"source_seq":` + v + `}`
	return true
}

func isAssetType(s string) bool {
	switch s {
	case "USER", "TRANSPORT", "TENANT", "GATEWAY", "ENDPOINT":
		return true
	}
	return false
}
