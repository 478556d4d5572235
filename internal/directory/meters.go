package directory

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Meter is what meter.defined says. The zero value of a field means nobody said.
type Meter struct {
	Name        string
	ID          string // the meter_id that a report prints
	Element     string
	Kind        string // KindSecureConnect, or usage
	Plan        string
	Service     string
	Aggregation string // sum where nobody defined the meter
	Unit        string
	Scale       int // fractional digits; 9 where nobody defined the meter
}

// KindSecureConnect is the kind of meters whose usage belongs to assets and has a price.
const KindSecureConnect = "secure_connect"

// meter is a meter's definition, and all that there were where they differ.
type meter struct {
	now  Meter
	defs []definition
}

type definition struct {
	event *parsed
	Meter
}

// define holds for all time, whatever the instant: a meter that was counted before anybody defined it means what
// the definition says. What a second one changes is judged by Judge.
func (s *State) define(e *parsed, d *data) {
	m := s.meters[d.meter]
	def := definition{Meter: d.define()}
	switch {
	case m == nil:
		s.meters[d.meter] = &meter{def.Meter, []definition{def}}
		return
	case def.Meter == m.now:
		return
	}
	kept := *e
	def.event = &kept
	m.now, m.defs = def.Meter, append(m.defs, def)
}

func (d *data) define() Meter {
	m := Meter{
		Name: d.meter, ID: d.meterID, Element: d.element, Kind: d.kind, Plan: d.plan, Service: d.service, Aggregation: d.aggregation,
		Unit: d.unit, Scale: 9,
	}
	if m.Aggregation == "" {
		m.Aggregation = "sum"
	}
	if n, err := strconv.Atoi(d.scale); err == nil {
		m.Scale = n
	}
	return m
}

// Contested are the meters that are defined in more than one way, and the instant of the last that differs: if the
// meter was used before it, Judge has something to say.
func (s *State) Contested() map[string]int64 {
	var contested map[string]int64
	for name, m := range s.meters {
		if len(m.defs) > 1 {
			if contested == nil {
				contested = map[string]int64{}
			}
			contested[name] = m.defs[len(m.defs)-1].event.At
		}
	}
	return contested
}

// Judge is the state in which no meter was redefined after its first use, given in Unix ms by meter; a meter that
// is not there was never used. Fold alone takes every definition for legal.
func (s *State) Judge(firstUse map[string]int64) *State {
	judged, broken := map[string]*meter{}, slices.Clone(s.broken)
	fresh := *s
	fresh.broken = nil
	for name, m := range s.meters {
		used, ok := firstUse[name]
		if len(m.defs) < 2 || !ok {
			continue
		}
		next := &meter{m.defs[0].Meter, m.defs}
		for _, def := range m.defs[1:] {
			switch {
			case def.Meter == next.now:
			case used < def.event.At:
				fresh.refuse(def.event, ruleMeterRedefined, quoted("meter %s is defined otherwise, and was used at ", name)+instantText(used))
			default:
				next.now = def.Meter
			}
		}
		judged[name] = next
	}
	if len(judged) == 0 {
		return s
	}
	fresh.meters = maps.Clone(s.meters)
	maps.Copy(fresh.meters, judged)
	fresh.broken = append(broken, fresh.broken...)
	fresh.settle()
	return &fresh
}

// Meter is the meter as defined. A meter nobody defined is a sum of scale 9 without unit and service.
func (s *State) Meter(name string) Meter {
	if m := s.meters[name]; m != nil {
		return m.now
	}
	return Meter{Name: name, Aggregation: "sum", Scale: 9}
}

// Meters are all defined meters by name.
func (s *State) Meters() []Meter {
	meters := make([]Meter, 0, len(s.meters))
	for _, m := range s.meters {
		meters = append(meters, m.now)
	}
	slices.SortFunc(meters, func(a, b Meter) int { return strings.Compare(a.Name, b.Name) })
	return meters
}
