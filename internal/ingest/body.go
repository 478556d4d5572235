package ingest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/countinghouse/countinghouse/internal/usage"
)

const (
	bodyFirst = 32 << 10 // what a body's buffer starts with
	bodyKeep  = 1 << 20  // a pooled buffer larger than this is given to the garbage collector
	// bodyCost is what a byte of a decoded body takes in memory while its events are parsed: itself, the
	// events, and half again for the buffer that is being grown.
	bodyCost = 3
	// zstdWindow bounds what a frame may make its decoder allocate; RFC 8878 recommends 8 MiB.
	zstdWindow = 8 << 20
)

var (
	errBodySize    = errors.New("body too large")
	errBadEncoding = errors.New("body is not what its Content-Encoding says")
	errEncoding    = errors.New("unsupported Content-Encoding")
)

// scratch is what one request needs until its events are packed. It is pooled; nothing that outlives
// that may point into it.
type scratch struct {
	*desk // while events are parsed and packed
	body  []byte
	gzip  *gzip.Reader
	zstd  *zstd.Decoder

	charged int64 // of the tenant's account, given back when the events are packed
}

// desk is where the events of a request are parsed and packed. What it holds points into the body. There
// are few, because nobody who has one waits for anything: their number, and not that of the requests,
// is what parsed events cost in memory.
type desk struct {
	parser *usage.Parser
	events []usage.Event
	faults []usage.Fault
}

// desksPerCPU: one at work, and some whose goroutine was stopped in between.
const desksPerCPU = 4

// deskKeep: a desk that held more events is not kept, about 1 MB.
const deskKeep = 2048

type scratches struct {
	pool   sync.Pool
	limits usage.Limits
	desks  chan *desk // nil: one that was not needed yet
}

func newScratches(limits usage.Limits) *scratches {
	n := desksPerCPU * runtime.GOMAXPROCS(0)
	p := &scratches{limits: limits, desks: make(chan *desk, n)}
	for range n {
		p.desks <- nil
	}
	return p
}

func (p *scratches) get() *scratch {
	s, _ := p.pool.Get().(*scratch)
	if s == nil {
		s = &scratch{body: make([]byte, 0, bodyFirst)}
	}
	return s
}

// sit waits for a desk.
func (p *scratches) sit(s *scratch) {
	if s.desk = <-p.desks; s.desk == nil {
		s.desk = &desk{parser: usage.NewParser(p.limits)}
		s.desk.parser.Lend()
	}
}

// put takes back s, its desk and what it was charged.
func (p *scratches) put(s *scratch, memory *account) {
	memory.give(s.charged)
	if d := s.desk; d != nil {
		s.desk = nil
		if cap(d.events) > deskKeep {
			d = nil
		} else {
			clear(d.events) // pins no strings
			d.events, d.faults = d.events[:0], d.faults[:0]
			d.parser.Reclaim()
		}
		p.desks <- d
	}
	s.body, s.charged = s.body[:0], 0
	if cap(s.body) > bodyKeep {
		s.body = make([]byte, 0, bodyFirst)
	}
	p.pool.Put(s)
}

// read fills s.body with the decoded body. Neither the bytes on the wire nor the decoded ones may
// exceed most, which is checked while reading: a bomb costs no more than an honest request. What the
// buffer grows to is charged to memory first.
func (s *scratch) read(w http.ResponseWriter, r *http.Request, most int64, memory *account) error {
	if r.ContentLength > most {
		return errBodySize
	}
	var src io.Reader = http.MaxBytesReader(w, r.Body, most)
	encoding, err := encodingOf(r.Header)
	if err != nil {
		return err
	}
	switch encoding {
	case "gzip":
		if src, err = s.gunzip(src); err != nil {
			return decodeError(err)
		}
	case "zstd":
		if src, err = s.unzstd(src); err != nil {
			return decodeError(err)
		}
	}
	if err := s.charge(memory, int64(cap(s.body))); err != nil {
		return err
	}
	if n := r.ContentLength; encoding == "" && n >= int64(cap(s.body)) {
		if err := s.grow(memory, int(n)+1); err != nil { // one more, so that EOF needs no growth
			return err
		}
	}
	for {
		if len(s.body) == cap(s.body) {
			if err := s.grow(memory, 2*cap(s.body)); err != nil {
				return err
			}
		}
		n, err := src.Read(s.body[len(s.body):cap(s.body)])
		s.body = s.body[:len(s.body)+n]
		switch {
		case int64(len(s.body)) > most:
			return errBodySize
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && encoding != "":
			return decodeError(err)
		case err != nil:
			return readError(err)
		}
	}
}

func (s *scratch) grow(memory *account, size int) error {
	if err := s.charge(memory, int64(size-cap(s.body))); err != nil {
		return err
	}
	bigger := make([]byte, len(s.body), size)
	copy(bigger, s.body)
	s.body = bigger
	return nil
}

func (s *scratch) charge(memory *account, n int64) error {
	if !memory.take(n * bodyCost) {
		return errOverloaded
	}
	s.charged += n * bodyCost
	return nil
}

func (s *scratch) gunzip(src io.Reader) (io.Reader, error) {
	if s.gzip == nil {
		z, err := gzip.NewReader(src)
		s.gzip = z
		return z, err
	}
	return s.gzip, s.gzip.Reset(src)
}

func (s *scratch) unzstd(src io.Reader) (io.Reader, error) {
	if s.zstd == nil {
		// Concurrency 1 decodes in the caller's goroutine: there is nothing to close when the pool
		// lets go of the decoder.
		z, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(zstdWindow))
		s.zstd = z
		return z, err
	}
	return s.zstd, s.zstd.Reset(src)
}

func encodingOf(h http.Header) (string, error) {
	values := h["Content-Encoding"]
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 {
		return "", fmt.Errorf("%w: given twice", errEncoding)
	}
	switch v := strings.ToLower(strings.TrimSpace(values[0])); v {
	case "", "identity":
		return "", nil
	case "gzip", "x-gzip":
		return "gzip", nil
	case "zstd":
		return v, nil
	default:
		return "", fmt.Errorf("%w: %.40q", errEncoding, v)
	}
}

// decodeError tells a damaged body from one that is too large or did not arrive.
func decodeError(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge), errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return errBodySize
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF),
		errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum):
		return fmt.Errorf("%w: %w", errBadEncoding, err)
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) {
		return err
	}
	return fmt.Errorf("%w: %w", errBadEncoding, err)
}

func readError(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return errBodySize
	}
	return err
}
