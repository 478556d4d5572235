package main

import (
	"fmt"
	"math/bits"
	"strconv"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// sample is a log made of a number: chunk i of it is the same whoever makes it and whenever, so that a fill
// that was interrupted goes on where it was, and the same events can be written as chunks and as JSON. The
// events are those of the load (body.go), spread over tenants, accounts, meters and time.
type sample struct {
	tenants, accounts int
	seed              uint64
	repeats           int  // events of each chunk that are duplicates of earlier ones: 5 are 1 %
	flood             bool // every event of a tenant is one and the same
	at                func(chunk int64) int64
}

const (
	chunkEvents   = eventlog.ChunkEventsMax
	devices       = 100_000
	requestEvents = 100 // events of one request share a correlation id, and its second
)

// splitmix is Vigna's generator. Its state is the number of the event, so two events of a sample never
// share one, and their ids differ.
type splitmix uint64

func (s *splitmix) next() uint64 {
	*s += 0x9e3779b97f4a7c15
	z := uint64(*s)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (s *splitmix) below(n int) int {
	hi, _ := bits.Mul64(s.next(), uint64(n))
	return int(hi)
}

// drawn is an event as numbers.
type drawn struct {
	id              [2]uint64
	at              int64 // Unix ms
	account, meter  int
	source          int
	device          int
	quantity        int64
	tenant          int
	correlationSeed uint64
}

func (s *sample) tenantOf(chunk int64) int { return int(chunk * 7919 % int64(s.tenants)) }

// event draws event j of a chunk: its own, or an earlier one of the same tenant again.
func (s *sample) event(chunk int64, j int) drawn {
	if s.flood {
		return s.own(chunk%int64(s.tenants), 0)
	}
	if rounds := chunk / int64(s.tenants); j < s.repeats && rounds > 0 {
		back := int64(1) // of the chunk before, as a retry is
		rnd := s.state(chunk, j)
		if j%2 == 1 {
			back += int64(rnd.below(int(rounds))) // as old as the log
		}
		return s.own(chunk-back*int64(s.tenants), s.repeats+rnd.below(chunkEvents-s.repeats))
	}
	return s.own(chunk, j)
}

// repeated is how many duplicates are in the first n chunks.
func (s *sample) repeated(n int64) int64 {
	if s.flood {
		return n*chunkEvents - min(n, int64(s.tenants))
	}
	return max(0, n-int64(s.tenants)) * int64(s.repeats)
}

func (s *sample) state(chunk int64, j int) splitmix {
	r := splitmix(s.seed)
	return splitmix(r.next() + uint64(chunk)*chunkEvents + uint64(j))
}

func (s *sample) own(chunk int64, j int) drawn {
	rnd := s.state(chunk, j)
	d := drawn{id: [2]uint64{rnd.next(), rnd.next()}, tenant: s.tenantOf(chunk)}
	d.at = s.at(chunk) - int64(rnd.below(1000))
	d.account, d.meter, d.source = rnd.below(s.accounts), rnd.below(len(meters)), rnd.below(4)
	d.device, d.quantity = rnd.below(devices), int64(100+rnd.below(900))
	first := s.state(chunk, j/requestEvents*requestEvents)
	d.correlationSeed = ^first.next()
	return d
}

// home is the region of an account.
func home(tenant, accounts, account int) string {
	return regions[(tenant*accounts+account)%len(regions)]
}

var regions = [...]string{"eu-west", "us-east", "ap-south"} //arch:global a table

// packer makes messages of a sample. One goroutine owns it.
type packer struct {
	*sample
	chunk   eventlog.Chunk
	metered []usage.Metered
}

func newPacker(s *sample) *packer {
	return &packer{sample: s, metered: make([]usage.Metered, chunkEvents)}
}

// encode writes chunk i as ingest would have, accepted at the given moment.
func (p *packer) encode(dst []byte, i int64, accepted usage.Instant) ([]byte, error) {
	p.chunk.AcceptedAt, p.chunk.Events = accepted, p.chunk.Events[:0]
	correlation := ""
	for j := range chunkEvents {
		d := p.event(i, j)
		if j%requestEvents == 0 {
			correlation = uuidText(d.correlationSeed, ^d.correlationSeed)
		}
		m := &p.metered[j]
		*m = usage.Metered{
			Meter: meters[d.meter], Quantity: usage.Int(d.quantity), Unit: "unit", Region: home(d.tenant, p.accounts, d.account),
			ConsumerType: "device", ConsumerID: device(d.device),
		}
		p.chunk.Events = append(p.chunk.Events, usage.Event{
			Source: "/gateways/" + strconv.Itoa(d.source), ID: uuidText(d.id[0], d.id[1]), Type: usage.TypeMetered, Subject: account(d.account),
			Time: usage.At(d.at * 1e6), CorrelationID: correlation, CausationID: correlation,
			Filled: usage.FilledCorrelation | usage.FilledCausation, Metered: m,
		})
	}
	dst, err := eventlog.EncodeChunk(dst, &p.chunk)
	if err != nil {
		return dst, fmt.Errorf("encode chunk %d: %w", i, err)
	}
	return dst, nil
}

// json writes events [from, to) of chunk i as a CloudEvents batch, as a producer without ingest does.
func (p *packer) json(dst []byte, i int64, from, to int) []byte {
	dst = append(dst, '[')
	for j := from; j < to; j++ {
		if j > from {
			dst = append(dst, ',')
		}
		d := p.event(i, j)
		dst = append(dst, `{"specversion":"1.0","id":"`...)
		dst = append(dst, uuidText(d.id[0], d.id[1])...)
		dst = append(dst, `","source":"/gateways/`...)
		dst = strconv.AppendInt(dst, int64(d.source), 10)
		dst = append(dst, `","type":"usage.metered","subject":"`...)
		dst = append(dst, account(d.account)...)
		dst = append(dst, `","time":"`...)
		dst = usage.At(d.at*1e6).Time().AppendFormat(dst, timeLayout)
		dst = append(dst, `","data":{"meter":"`...)
		dst = append(dst, meters[d.meter]...)
		dst = append(dst, `","quantity":"`...)
		dst = strconv.AppendInt(dst, d.quantity, 10)
		dst = append(dst, `","unit":"unit","region":"`...)
		dst = append(dst, home(d.tenant, p.accounts, d.account)...)
		dst = append(dst, `","consumer":{"type":"device","id":"`...)
		dst = append(dst, device(d.device)...)
		dst = append(dst, `"}}}`...)
	}
	return append(dst, ']')
}

func uuidText(x, y uint64) string {
	var b [idWidth]byte
	putUUID(b[:], x, y)
	return string(b[:])
}

func account(n int) string { return padded("account-", n, 4) }
func device(n int) string  { return padded("device-", n, 6) }

// padded is fmt's %0*d, which would be half of the cost of an event.
func padded(prefix string, n, width int) string {
	b := make([]byte, len(prefix)+width)
	copy(b, prefix)
	for i := len(b) - 1; i >= len(prefix); i-- {
		b[i] = '0' + byte(n%10)
		n /= 10
	}
	return string(b)
}
