package demo

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

const (
	batchMax = 500
	seed     = 20260101
)

type event struct {
	SpecVersion   string `json:"specversion"`
	ID            string `json:"id"`
	Source        string `json:"source"`
	Type          string `json:"type"`
	Subject       string `json:"subject,omitempty"`
	Time          string `json:"time"`
	RecordedTime  string `json:"recordedtime"`
	CorrelationID string `json:"correlationid,omitempty"`
	Data          any    `json:"data"`

	at, recorded time.Time
}

type fields map[string]any

// Producers of the group: each product sends for itself.
const (
	fromDirectory = "demo/directory"
	fromCloud     = "demo/cloud"
	fromIdentity  = "demo/identity"
	fromConnect   = "demo/connect"
	fromElastic   = "demo/elastic"
	fromPartner   = "demo/partner"
)

// stage is where the group acts: day after day, from the day it began until now. What happens on a day depends
// on the days before it, never on those after it.
type stage struct {
	began, now time.Time
	today      time.Time // its midnight
	day        int       // since the beginning
	events     []event   // of today
	each       func([]byte, int) error

	identity identity
	elastic  elastic
	partner  partner
}

// month is the first day of the n-th month since the beginning.
func (s *stage) month(n int) time.Time { return s.began.AddDate(0, n, 0) }

// on reports whether today is a day of a month, both counted from the beginning.
func (s *stage) on(month, day int) bool {
	return s.today.Equal(s.month(month).AddDate(0, 0, day-1))
}

// at is a time of today.
func (s *stage) at(hour, minute int) time.Time {
	return s.today.Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute)
}

// chance is the luck of a stream on a day: nothing else moves it.
func (s *stage) chance(stream string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(stream)) // a hash never fails
	_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, uint64(s.day)))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// worktime is a time of a working day, in the hours in which people work.
func (s *stage) worktime(r *rand.Rand) time.Time {
	return s.at(7, 0).Add(time.Duration(r.Int64N(int64(11 * time.Hour)))).Truncate(time.Second)
}

func (s *stage) weekend() bool {
	return s.today.Weekday() == time.Saturday || s.today.Weekday() == time.Sunday
}

// say adds an event that was recorded within a minute.
func (s *stage) say(source, id, typ, account string, at time.Time, data any) {
	s.late(source, id, typ, account, at, at.Add(time.Duration(len(id)%50)*time.Second), data)
}

// late adds an event with the time at which it was recorded.
func (s *stage) late(source, id, typ, account string, at, recorded time.Time, data any) {
	s.add(event{ID: id, Source: source, Type: typ, Subject: account, Data: data, at: at, recorded: recorded})
}

func (s *stage) add(e event) {
	if e.at.Before(s.now) && e.recorded.Before(s.now) {
		s.events = append(s.events, e)
	}
}

// run plays every day.
func (s *stage) run() error {
	p := packer{each: s.each}
	for s.today = s.began; s.today.Before(s.now); s.today = s.today.AddDate(0, 0, 1) {
		s.events = s.events[:0]
		for _, act := range []func(){s.directory, s.cloud, s.people, s.connect, s.elasticAccess, s.certificates, s.incidents} {
			act()
		}
		slices.SortStableFunc(s.events, func(a, b event) int { return a.recorded.Compare(b.recorded) })
		for _, e := range s.events {
			if err := p.add(e); err != nil {
				return err
			}
		}
		s.day++
	}
	return p.flush()
}

// packer makes batches of JSON.
type packer struct {
	each func([]byte, int) error
	body []byte
	n    int
}

func (p *packer) add(e event) error {
	e.SpecVersion = "1.0"
	e.Time, e.RecordedTime = instant(e.at), instant(e.recorded)
	doc, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode demo event: %w", err)
	}
	if p.n == 0 {
		p.body = append(p.body, '[')
	} else {
		p.body = append(p.body, ',')
	}
	p.body = append(p.body, doc...)
	if p.n++; p.n >= batchMax {
		return p.flush()
	}
	return nil
}

func (p *packer) flush() error {
	if p.n == 0 {
		return nil
	}
	body, n := append(p.body, ']'), p.n
	p.body, p.n = nil, 0
	return p.each(body, n)
}

func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999Z07:00") }

func date(t time.Time) string { return t.Format(time.DateOnly) }

// thousandths is an exact decimal of n/1000.
func thousandths(n int) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	return fmt.Sprintf("%s%d.%03d", sign, n/1000, n%1000)
}

// cents is an exact amount of money.
func cents(n int) string { return fmt.Sprintf("%d.%02d", n/100, n%100) }

// share is n × part / whole, rounded half to even.
func share(n, part, whole int) int {
	product := n * part
	q, r := product/whole, product%whole
	if 2*r > whole || 2*r == whole && q%2 == 1 {
		q++
	}
	return q
}

func number(n int) string { return strconv.Itoa(n) }
