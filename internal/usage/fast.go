package usage

import (
	"slices"
	"strings"
)

// scanner reads usage.metered in its usual form about three times as fast as the strict path: known
// members, no escapes, type before data. It never refuses: at anything else, and at any fault, it
// stands back and the strict path decides. What it accepts the strict path accepts as the same event;
// FuzzFastAgreesWithStrict holds it to that.
type scanner struct {
	doc  []byte
	text string // the same bytes; what it returns are slices of it
	pos  int

	ascii   bool          // the last string was plain ASCII
	sources [4]string     // found to be URI references, the one copy of each
	source  int           // which of them is replaced next
	routes  [routes]route // how the events before were written
	scratch []Dimension   // the dimensions being read
	dims    []Dimension   // handed out in runs
	slab    []Metered     // handed out one by one

	lends  bool        // Parser.Lend
	blocks [][]Metered // what slab is cut from, if it lends
	block  int         // the next of them
	pairs  []Dimension // what dims is cut from, if it lends
}

// slabSize is how many payloads are allocated at once. One kept event pins its neighbours (10 KB).
const slabSize = 32

// fastEvent reads the event at doc[pos:] into e, which is zero, if it has the usual form; else e stays zero.
func (p *Parser) fastEvent(e *Event, doc []byte, text string, pos int) (end int, ok bool) {
	s := &p.fast
	s.doc, s.text, s.pos = doc, text, pos
	if len(s.slab) == 0 {
		s.newSlab()
	}
	m := &s.slab[0]
	if !s.event(e, m) || !p.limits.checkMetered(m, nil) {
		*e, *m = Event{}, Metered{}
		return 0, false
	}
	s.slab = s.slab[1:]
	e.Metered = m
	end = s.pos
	s.doc, s.text = nil, ""
	return end, true
}

func (s *scanner) newSlab() {
	if !s.lends {
		s.slab = make([]Metered, slabSize)
		return
	}
	if s.block == len(s.blocks) {
		s.blocks = append(s.blocks, make([]Metered, slabSize))
	}
	s.slab = s.blocks[s.block]
	s.block++
}

// reclaim takes back what was lent, and lets go of the document.
func (s *scanner) reclaim() {
	for _, b := range s.blocks[:s.block] {
		clear(b)
	}
	clear(s.pairs[:len(s.pairs)-len(s.dims)])
	clear(s.scratch)
	s.slab, s.block, s.dims = nil, 0, s.pairs
	s.sources = [len(s.sources)]string{}
	s.doc, s.text = nil, ""
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
	for i := 0; ; i++ {
		bit := s.member(routeEvent, i)
		if bit == memberEnd {
			return seen&seenRequired == seenRequired
		}
		if seen&bit != 0 {
			return false
		}
		ok := false
		switch bit {
		case seenSpec:
			ok = s.literal(`"1.0"`)
		case seenID:
			ok = s.attribute(&e.ID)
		case seenSource:
			ok = s.uri(&e.Source)
		case seenType:
			e.Type = TypeMetered
			ok = s.literal(`"` + TypeMetered + `"`)
		case seenSubject:
			ok = s.attribute(&e.Subject)
		case seenTime:
			ok = s.instant(&e.Time)
		case seenContentType:
			ok = s.literal(`"application/json"`)
		case seenCorrelation:
			ok = s.attribute(&e.CorrelationID)
		case seenCausation:
			ok = s.attribute(&e.CausationID)
		case seenTrace:
			ok = s.attribute(&e.TraceParent)
		case seenRecorded:
			ok = s.instant(&e.RecordedTime)
		case seenData:
			ok = seen&seenType != 0 && s.metered(m, &e.Data)
		}
		if !ok {
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
	for i := 0; ; i++ {
		bit := s.member(routeData, i)
		if bit == memberEnd {
			return seen&(seenMeter|seenQuantity) == seenMeter|seenQuantity && m.Meter != ""
		}
		if seen&bit != 0 {
			return false
		}
		ok := false
		switch bit {
		case seenMeter:
			ok = s.set(&m.Meter)
		case seenQuantity:
			ok = s.quantity(&m.Quantity)
		case seenUnit:
			ok = s.set(&m.Unit)
		case seenAsset:
			ok = s.asset(m)
		case seenStart:
			ok = s.instant(&m.Start)
		case seenEnd:
			ok = s.instant(&m.End)
		case seenRegion:
			ok = s.set(&m.Region)
		case seenPlatform:
			ok = s.set(&m.Platform)
		case seenTrial:
			ok = s.instant(&m.TrialExpiry)
		case seenConsumer:
			ok = s.consumer(m)
		case seenItem:
			ok = s.set(&m.Item)
		case seenVersion:
			ok = s.set(&m.ItemVersion)
		case seenPlan:
			ok = s.set(&m.Plan)
		case seenDimensions:
			ok = s.dimensions(m)
		case seenSeq:
			ok = s.sequence(rest)
		}
		if !ok {
			return false
		}
		seen |= bit
	}
}

// Bits of the members of asset and consumer.
const (
	seenPartID = 1 << iota
	seenPartName
	seenPartType
)

func (s *scanner) asset(m *Metered) bool {
	seen := 0
	for i := 0; ; i++ {
		bit := s.member(routeAsset, i)
		if bit == memberEnd {
			return m.AssetID != "" && (m.AssetType == "" || isAssetType(m.AssetType))
		}
		if seen&bit != 0 {
			return false
		}
		ok := false
		switch bit {
		case seenPartID:
			ok = s.set(&m.AssetID)
		case seenPartName:
			ok = s.set(&m.AssetName)
		case seenPartType:
			ok = s.set(&m.AssetType)
		}
		if !ok {
			return false
		}
		seen |= bit
	}
}

func (s *scanner) consumer(m *Metered) bool {
	seen := 0
	for i := 0; ; i++ {
		bit := s.member(routeConsumer, i)
		if bit == memberEnd {
			return m.ConsumerID != ""
		}
		if seen&bit != 0 {
			return false
		}
		ok := false
		switch bit {
		case seenPartID:
			ok = s.set(&m.ConsumerID)
		case seenPartType:
			ok = s.set(&m.ConsumerType)
		}
		if !ok {
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
		s.dims = make([]Dimension, max(4*slabSize, n, 2*len(s.pairs)))
		if s.lends {
			s.pairs = s.dims
		}
	}
	m.Dimensions = s.dims[:n:n]
	copy(m.Dimensions, s.scratch)
	s.dims = s.dims[n:]
	return true
}
