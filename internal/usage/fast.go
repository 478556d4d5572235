package usage

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"
)

// scanner reads usage.metered in its usual form about three times as fast as the strict path: known
// members, no escapes, type before data. It never refuses: at anything else, and at any fault, it
// stands back and the strict path decides. What it accepts the strict path accepts as the same event;
// FuzzFastAgreesWithStrict holds it to that.
type scanner struct {
	doc  []byte
	text string // the same bytes; what it returns are slices of it
	pos  int

	ascii   bool        // the last string was plain ASCII
	source  string      // the last source found to be a URI reference, the one copy of it
	slab    []Metered   // handed out one by one
	scratch []Dimension // the dimensions being read
	dims    []Dimension // handed out in runs
}

// slabSize is how many payloads are allocated at once. One kept event pins its neighbours (10 KB).
const slabSize = 32

// fastEvent reads the event at doc[pos:], if it has the usual form.
func (p *Parser) fastEvent(doc []byte, text string, pos int) (e Event, end int, ok bool) {
	s := &p.fast
	s.doc, s.text, s.pos = doc, text, pos
	if len(s.slab) == 0 {
		s.slab = make([]Metered, slabSize)
	}
	m := &s.slab[0]
	if !s.event(&e, m) || !p.limits.checkMetered(m, nil) {
		*m = Metered{}
		return Event{}, 0, false
	}
	s.slab = s.slab[1:]
	e.Metered = m
	end = s.pos
	s.doc, s.text = nil, ""
	return e, end, true
}

// Bits of the members seen, to notice repetitions and omissions.
const (
	seenSpec = 1 << iota
	seenID
	seenSource
	seenType
	seenData
	seenSubject
	seenTime
	seenContentType
	seenCorrelation
	seenCausation
	seenTrace
	seenRecorded
)

const seenRequired = seenSpec | seenID | seenSource | seenType | seenData

func (s *scanner) event(e *Event, m *Metered) bool {
	seen := 0
	for first := true; ; first = false {
		name, more, ok := s.memberName(first)
		if !ok {
			return false
		}
		if !more {
			return seen&seenRequired == seenRequired
		}
		bit := 0
		switch name {
		case "specversion":
			v, ok := s.str()
			if bit = seenSpec; !ok || v != "1.0" {
				return false
			}
		case "id":
			bit, ok = seenID, s.attribute(&e.ID)
		case "source":
			bit, ok = seenSource, s.uri(&e.Source)
		case "type":
			v, _ := s.str()
			e.Type = TypeMetered
			bit, ok = seenType, v == TypeMetered
		case "subject":
			bit, ok = seenSubject, s.attribute(&e.Subject)
		case "time":
			bit, ok = seenTime, s.instant(&e.Time)
		case "datacontenttype":
			v, _ := s.str()
			bit, ok = seenContentType, v == "application/json"
		case "correlationid":
			bit, ok = seenCorrelation, s.attribute(&e.CorrelationID)
		case "causationid":
			bit, ok = seenCausation, s.attribute(&e.CausationID)
		case "traceparent":
			bit, ok = seenTrace, s.attribute(&e.TraceParent)
		case "recordedtime":
			bit, ok = seenRecorded, s.instant(&e.RecordedTime)
		case "data":
			bit, ok = seenData, seen&seenType != 0 && s.metered(m, &e.Data)
		default:
			return false
		}
		if !ok || seen&bit != 0 {
			return false
		}
		seen |= bit
	}
}

// Bits of the members of data.
const (
	seenMeter = 1 << iota
	seenQuantity
	seenUnit
	seenAsset
	seenStart
	seenEnd
	seenRegion
	seenPlatform
	seenTrial
	seenConsumer
	seenItem
	seenVersion
	seenPlan
	seenDimensions
	seenSeq
)

func (s *scanner) metered(m *Metered, rest *string) bool {
	seen := 0
	for first := true; ; first = false {
		name, more, ok := s.memberName(first)
		if !ok {
			return false
		}
		if !more {
			return seen&(seenMeter|seenQuantity) == seenMeter|seenQuantity && m.Meter != ""
		}
		bit := 0
		switch name {
		case "meter":
			bit, ok = seenMeter, s.set(&m.Meter)
		case "quantity":
			bit, ok = seenQuantity, s.quantity(&m.Quantity)
		case "unit":
			bit, ok = seenUnit, s.set(&m.Unit)
		case "asset":
			bit, ok = seenAsset, s.asset(m)
		case "start":
			bit, ok = seenStart, s.instant(&m.Start)
		case "end":
			bit, ok = seenEnd, s.instant(&m.End)
		case "region":
			bit, ok = seenRegion, s.set(&m.Region)
		case "platform":
			bit, ok = seenPlatform, s.set(&m.Platform)
		case "trial_expiry":
			bit, ok = seenTrial, s.instant(&m.TrialExpiry)
		case "consumer":
			bit, ok = seenConsumer, s.consumer(m)
		case "item":
			bit, ok = seenItem, s.set(&m.Item)
		case "item_version":
			bit, ok = seenVersion, s.set(&m.ItemVersion)
		case "plan":
			bit, ok = seenPlan, s.set(&m.Plan)
		case "dimensions":
			bit, ok = seenDimensions, s.dimensions(m)
		case "source_seq":
			bit, ok = seenSeq, s.sequence(rest)
		default:
			return false
		}
		if !ok || seen&bit != 0 {
			return false
		}
		seen |= bit
	}
}

func (s *scanner) asset(m *Metered) bool {
	seen := 0
	for first := true; ; first = false {
		name, more, ok := s.memberName(first)
		if !ok {
			return false
		}
		if !more {
			return m.AssetID != "" && (m.AssetType == "" || isAssetType(m.AssetType))
		}
		bit := 0
		switch name {
		case "id":
			bit, ok = 1, s.set(&m.AssetID)
		case "name":
			bit, ok = 2, s.set(&m.AssetName)
		case "type":
			bit, ok = 4, s.set(&m.AssetType)
		default:
			return false
		}
		if !ok || seen&bit != 0 {
			return false
		}
		seen |= bit
	}
}

func (s *scanner) consumer(m *Metered) bool {
	seen := 0
	for first := true; ; first = false {
		name, more, ok := s.memberName(first)
		if !ok {
			return false
		}
		if !more {
			return m.ConsumerID != ""
		}
		bit := 0
		switch name {
		case "id":
			bit, ok = 1, s.set(&m.ConsumerID)
		case "type":
			bit, ok = 2, s.set(&m.ConsumerType)
		default:
			return false
		}
		if !ok || seen&bit != 0 {
			return false
		}
		seen |= bit
	}
}

func (s *scanner) dimensions(m *Metered) bool {
	s.scratch = s.scratch[:0]
	sorted := true
	for first := true; ; first = false {
		name, more, ok := s.memberName(first)
		if !ok {
			return false
		}
		if !more {
			break
		}
		var v string
		if !s.set(&v) {
			return false
		}
		if n := len(s.scratch); n > 0 && s.scratch[n-1].Key >= name {
			sorted = false
		}
		s.scratch = append(s.scratch, Dimension{name, v})
	}
	if !sorted {
		slices.SortFunc(s.scratch, func(a, b Dimension) int { return strings.Compare(a.Key, b.Key) })
		for i := 1; i < len(s.scratch); i++ {
			if s.scratch[i].Key == s.scratch[i-1].Key {
				return false
			}
		}
	}
	n := len(s.scratch)
	if n == 0 {
		return true
	}
	if len(s.dims) < n {
		s.dims = make([]Dimension, max(4*slabSize, n))
	}
	m.Dimensions = s.dims[:n:n]
	copy(m.Dimensions, s.scratch)
	s.dims = s.dims[n:]
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
	if v != s.source {
		if !isURIReference(v) {
			return false
		}
		s.source = strings.Clone(v)
	}
	*to = s.source
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
