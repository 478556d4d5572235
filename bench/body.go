package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/countinghouse/countinghouse/internal/control"
)

// batchEvents is the events of one request.
const batchEvents = 100

// meters that the events are of.
var meters = [...]string{"api_calls", "bandwidth_mib", "storage_gib_hours", "messages", "tokens"} //arch:global a table

// body is a request that is sent again and again: everything but the ids, the times and the quantities
// stays, and those have a fixed width, so that making the next request is a few copies into its bytes.
// One connection owns it.
type body struct {
	tenant  string
	request []byte // header and body of the HTTP request
	from    int    // where the body starts
	slots   [batchEvents]slot
	first   []byte // the request as it was sent first; nil until then
	turn    int
}

// slot is where the changing parts of an event are.
type slot struct {
	id, time, quantity int
	account, meter     string
	consumer           string
}

const (
	idWidth       = 36
	timeLayout    = "2006-01-02T15:04:05.000Z"
	quantityWidth = 3
)

func newBody(rnd *rand.Rand, host, token string, tenant, accounts int) *body {
	b := &body{tenant: tenantName(tenant)}
	var text strings.Builder
	text.WriteByte('[')
	for i := range b.slots {
		if i > 0 {
			text.WriteByte(',')
		}
		b.slots[i] = event(&text, rnd, tenant, accounts)
	}
	text.WriteByte(']')
	header := fmt.Sprintf("POST /api/v1/events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/cloudevents-batch+json\r\nContent-Length: %d\r\n\r\n", host, token, text.Len())
	b.from = len(header)
	b.request = append([]byte(header), text.String()...)
	for i := range b.slots {
		s := &b.slots[i]
		s.id, s.time, s.quantity = s.id+b.from, s.time+b.from, s.quantity+b.from
	}
	return b
}

func event(w *strings.Builder, rnd *rand.Rand, tenant, accounts int) slot {
	n := rnd.IntN(accounts)
	s := slot{account: account(n), meter: meters[rnd.IntN(len(meters))], consumer: device(rnd.IntN(devices))}
	w.WriteString(`{"specversion":"1.0","id":"`)
	s.id = w.Len()
	w.WriteString(strings.Repeat("0", idWidth))
	fmt.Fprintf(w, `","source":"/gateways/%d","type":"usage.metered","subject":"%s","time":"`, rnd.IntN(4), s.account)
	s.time = w.Len()
	w.WriteString(timeLayout)
	fmt.Fprintf(w, `","data":{"meter":"%s","quantity":"`, s.meter)
	s.quantity = w.Len()
	w.WriteString(strings.Repeat("1", quantityWidth))
	fmt.Fprintf(w, `","unit":"unit","region":"%s","consumer":{"type":"device","id":"%s"}}}`,
		home(tenant, accounts, n), s.consumer)
	return s
}

// renew makes the next request: new random ids, now as the time, and, once the body has been sent, one
// event that is a duplicate: by turns of what the body held the last time (a retry, a second or so old)
// and of what it held the first time (as old as the run). It returns how many are.
func (b *body) renew(rnd *rand.ChaCha8, now time.Time) (duplicates int64) {
	kept := -1
	if b.first != nil {
		kept = int(rnd.Uint64() % batchEvents)
		duplicates = 1
	}
	at := now.UTC().AppendFormat(make([]byte, 0, len(timeLayout)), timeLayout)
	for i := range b.slots {
		s := &b.slots[i]
		if i == kept {
			if b.turn++; b.turn%2 == 0 {
				s.copy(b.request, b.first)
			}
			continue
		}
		x, y := rnd.Uint64(), rnd.Uint64()
		putUUID(b.request[s.id:s.id+idWidth], x, y)
		copy(b.request[s.time:], at)
		q := b.request[s.quantity : s.quantity+quantityWidth]
		q[0], q[1], q[2] = '1'+byte(x%9), '0'+byte(y%10), '0'+byte((x>>32)%10)
	}
	if b.first == nil {
		b.first = bytes.Clone(b.request)
	}
	return duplicates
}

// copy copies the event of the slot.
func (s *slot) copy(dst, src []byte) {
	copy(dst[s.id:s.id+idWidth], src[s.id:])
	copy(dst[s.time:s.time+len(timeLayout)], src[s.time:])
	copy(dst[s.quantity:s.quantity+quantityWidth], src[s.quantity:])
}

// putUUID writes a random (version 4) UUID of 122 of the given bits.
func putUUID(dst []byte, x, y uint64) {
	var raw [16]byte
	binary.LittleEndian.PutUint64(raw[:], x)
	binary.LittleEndian.PutUint64(raw[8:], y)
	raw[6] = raw[6]&0x0f | 0x40
	raw[8] = raw[8]&0x3f | 0x80
	hex.Encode(dst[0:8], raw[0:4])
	hex.Encode(dst[9:13], raw[4:6])
	hex.Encode(dst[14:18], raw[6:8])
	hex.Encode(dst[19:23], raw[8:10])
	hex.Encode(dst[24:36], raw[10:16])
	dst[8], dst[13], dst[18], dst[23] = '-', '-', '-', '-'
}

// seed of everything but the ids: two runs send the same mix.
const seed = 20251122

// prepare makes a key for every tenant, unless it was made before, and the bodies.
func prepare(ctx context.Context, s *system, o options) ([]*body, error) {
	if len(s.keys) != o.tenants {
		var err error
		if s.keys, err = s.makeKeys(ctx, o.tenants); err != nil {
			return nil, err
		}
	}
	rnd := rand.New(rand.NewPCG(seed, 0))
	var bodies []*body
	for range o.templates {
		for i, key := range s.keys {
			bodies = append(bodies, newBody(rnd, s.host, key, i, o.accounts))
		}
	}
	rnd.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
	return bodies, nil
}

// control opens what holds keys and operators.
func (s *system) control(ctx context.Context) (*control.Client, error) {
	cfg := control.DefaultConfig()
	cfg.URL, cfg.Name = s.endpoints.NATS, "countinghouse-bench"
	return control.Dial(ctx, cfg, zap.NewNop())
}

// makeKeys makes keys to send and to read, one a tenant, and that of the probes.
func (s *system) makeKeys(ctx context.Context, tenants int) ([]string, error) {
	keys := make([]string, tenants)
	store, err := s.control(ctx)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	if s.probeKey, err = newKey(ctx, store, probeTenant); err != nil {
		return nil, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range keys {
		g.Go(func() (err error) {
			keys[i], err = newKey(gctx, store, tenantName(i), "usage:read", "reports:read")
			return err
		})
	}
	return keys, g.Wait()
}

// newKey makes a key, once NATS is there.
func newKey(ctx context.Context, store *control.Client, tenant string, more ...string) (string, error) {
	for {
		_, key, err := store.Create(ctx, tenant, "bench", append([]string{"events:write"}, more...), time.Now().Add(24*time.Hour))
		if err == nil {
			return key, nil
		}
		if !errors.Is(err, control.ErrUnavailable) || !pause(ctx, 50*time.Millisecond) {
			return "", fmt.Errorf("make a key for %s: %w", tenant, err)
		}
	}
}

func tenantName(i int) string { return fmt.Sprintf("bench-%03d", i) }

// pause waits, or answers false when ctx ends.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
