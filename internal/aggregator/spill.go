package aggregator

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"unsafe"

	"github.com/zeebo/xxh3"
)

// spill is the part of memory that is on disk: identities that this session has decided and committed, and
// that memory has no room for. It is memory, not a store: its files have no name, end with the session, and
// mean nothing to another, whose hashes are seeded anew. What a session cannot read back it has forgotten,
// and then the warehouse is asked (ADR 0015). Checksums are kept in memory, so that a damaged disk forgets
// and never invents. Not safe for concurrent use.
//
// A run is one generation, cut into blocks by the first bits of the identity, so that one read of some
// 3 KiB answers. Sixteen runs become one, by cutting their blocks further: nothing is ever sorted.
type spill struct {
	dir    string
	keep   int    // identities, at most
	fan    int    // so many runs of a generation become one; 0: spillRuns
	runs   []*run // oldest first
	kept   int
	forgot func(error) // told why everything was forgotten

	scratch []entry
	block   []entry
}

const (
	// spillIdentities are 1 GiB of disk: three minutes of retries at 200,000 events a second, an hour at 10,000.
	spillIdentities = 1 << 25
	// spillRuns of a size become one: each identity is written twice in all.
	spillRuns = 16
	// spillBlock is the identities of a block, at most, on average: 4 KiB.
	spillBlock = 128
	entryBytes = int(unsafe.Sizeof(entry{}))
)

// run is a file of entries.
type run struct {
	file   *os.File
	bits   int      // blocks are 1 << bits
	starts []uint32 // of each block, in entries; the last one is the end
	sums   []uint64 // XXH3 of each block
	merged bool
}

func (r *run) entries() int { return int(r.starts[len(r.starts)-1]) }

// runBits is how many bits of an identity choose its block in a run of n.
func runBits(n int) int { return bits.Len(uint(n / spillBlock)) }

// blockOf is the block of an identity.
func blockOf(k ident, width int) int { return int(k.a >> (64 - width)) }

// add takes the entries of the youngest generation that memory has no room for. They may be used again.
func (s *spill) add(entries []entry) {
	if len(entries) == 0 {
		return
	}
	s.drop(s.keep - len(entries))
	if len(entries) > s.keep {
		return
	}
	if err := s.write(entries); err != nil {
		s.forget(err)
		return
	}
	s.kept += len(entries)
	if err := s.tidy(); err != nil {
		s.forget(err)
	}
}

// drop forgets the oldest runs until at most n identities are kept.
func (s *spill) drop(n int) {
	for len(s.runs) > 0 && s.kept > n {
		oldest := s.runs[0]
		s.runs = append(s.runs[:0], s.runs[1:]...)
		s.kept -= oldest.entries()
		_ = oldest.file.Close() // nobody wants what was written
	}
}

// write makes a run of entries.
func (s *spill) write(entries []entry) error {
	w, err := s.create(runBits(len(entries)))
	if err != nil {
		return err
	}
	s.scratch = append(s.scratch[:0], entries...)
	return s.finish(w, w.put(s.scratch, entries, 0, 0))
}

// tidy makes one run of many small ones. They are on disk twice while it does: the bound holds then too.
func (s *spill) tidy() error {
	small, twice := 0, 0
	for i := len(s.runs) - 1; i >= 0 && !s.runs[i].merged; i-- {
		small++
		twice += s.runs[i].entries()
	}
	if small < cmp.Or(s.fan, spillRuns) {
		return nil
	}
	s.drop(s.keep - twice)
	if small = min(small, len(s.runs)); small < 2 {
		return nil
	}
	return s.merge(len(s.runs) - small)
}

// merge makes one run of those from the given one on. Of an identity that two runs know the younger entry
// comes first, and is found.
func (s *spill) merge(from int) error {
	parts := s.runs[from:]
	total, narrow := 0, 64
	for _, r := range parts {
		total += r.entries()
		narrow = min(narrow, r.bits)
	}
	w, err := s.create(max(narrow, runBits(total)))
	if err != nil {
		return err
	}
	for prefix := range 1 << narrow {
		s.scratch = s.scratch[:0]
		for i := len(parts) - 1; i >= 0; i-- {
			r := parts[i]
			for b := prefix << (r.bits - narrow); b < (prefix+1)<<(r.bits-narrow); b++ {
				block, err := s.read(r, b)
				if err != nil {
					return s.finish(w, err)
				}
				s.scratch = append(s.scratch, block...)
			}
		}
		s.block = append(s.block[:0], s.scratch...)
		if err := w.put(s.block, s.scratch, prefix<<(w.bits-narrow), narrow); err != nil {
			return s.finish(w, err)
		}
	}
	for _, r := range parts {
		_ = r.file.Close() // nobody wants it any more
	}
	clear(parts)
	s.runs = s.runs[:from]
	w.merged = true
	return s.finish(w, nil)
}

// find returns the youngest entry of k.
func (s *spill) find(k ident) (entry, bool) {
	for i := len(s.runs) - 1; i >= 0; i-- {
		block, err := s.read(s.runs[i], blockOf(k, s.runs[i].bits))
		if err != nil {
			s.forget(err)
			return entry{}, false
		}
		for n := range block {
			if block[n].ident == k {
				return block[n], true
			}
		}
	}
	return entry{}, false
}

// read reads a block. It is valid until the next call.
func (s *spill) read(r *run, block int) ([]entry, error) {
	from, to := int(r.starts[block]), int(r.starts[block+1])
	if from == to {
		return nil, nil
	}
	if cap(s.block) < to-from {
		s.block = make([]entry, 2*(to-from))
	}
	out := s.block[:to-from]
	b := bytesOfEntries(out)
	if _, err := r.file.ReadAt(b, int64(from*entryBytes)); err != nil && err != io.EOF {
		return nil, fmt.Errorf("read identities back: %w", err)
	}
	if xxh3.Hash(b) != r.sums[block] {
		return nil, fmt.Errorf("read identities back: a block of %d differs from what was written", to-from)
	}
	return out, nil
}

// forget drops everything: what is older than what was forgotten must not be known either.
func (s *spill) forget(why error) {
	s.close()
	if s.forgot != nil {
		s.forgot(why)
	}
}

// close frees the disk.
func (s *spill) close() {
	for _, r := range s.runs {
		_ = r.file.Close() // nobody wants what was written
	}
	s.runs, s.kept = nil, 0
}

// runWriter writes a run, block by block.
type runWriter struct {
	run
	counts  []uint32
	written int
	ready   []byte
}

// create makes a run in a file that has no name: whatever ends the process frees it.
func (s *spill) create(width int) (*runWriter, error) {
	if err := os.MkdirAll(s.dir, 0o750); err != nil {
		return nil, fmt.Errorf("spill identities: %w", err)
	}
	file, err := os.CreateTemp(s.dir, "identities-*")
	if err != nil {
		return nil, fmt.Errorf("spill identities: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil {
		_ = file.Close() // empty
		return nil, fmt.Errorf("spill identities: %w", err)
	}
	n := 1 << width
	return &runWriter{run: run{file: file, bits: width, starts: make([]uint32, 1, n+1), sums: make([]uint64, 0, n)}}, nil
}

// put writes the entries of the blocks that begin with first and have the same first `known` bits: from is
// rearranged into to, which has its length, keeping the order of equals.
func (w *runWriter) put(to, from []entry, first, known int) error {
	n := 1 << (w.bits - known)
	w.counts = append(w.counts[:0], make([]uint32, n+1)...)
	for i := range from {
		w.counts[blockOf(from[i].ident, w.bits)-first+1]++
	}
	for i := range n {
		w.counts[i+1] += w.counts[i]
	}
	for i := range n {
		w.starts = append(w.starts, uint32(w.written)+w.counts[i+1])
	}
	for i := range from {
		at := &w.counts[blockOf(from[i].ident, w.bits)-first]
		to[*at] = from[i]
		*at++
	}
	begin := uint32(w.written)
	for b := first; b < first+n; b++ {
		w.sums = append(w.sums, xxh3.Hash(bytesOfEntries(to[w.starts[b]-begin:w.starts[b+1]-begin])))
	}
	w.written += len(from)
	b := bytesOfEntries(to)
	if len(b) >= spillWrite { // a whole run: not copied once more
		return errors.Join(w.flush(1), w.send(b))
	}
	w.ready = append(w.ready, b...)
	return w.flush(spillWrite)
}

// spillWrite is how many bytes are written at once, at least.
const spillWrite = 1 << 20

func (w *runWriter) flush(atLeast int) error {
	if len(w.ready) < atLeast {
		return nil
	}
	err := w.send(w.ready)
	w.ready = w.ready[:0]
	return err
}

func (w *runWriter) send(b []byte) error {
	if _, err := w.file.Write(b); err != nil {
		return fmt.Errorf("spill identities: %w", err)
	}
	return nil
}

// finish ends a run: it is the youngest, or, if err says why not, nothing.
func (s *spill) finish(w *runWriter, err error) error {
	if err == nil {
		err = w.flush(1)
	}
	if err != nil {
		_ = w.file.Close() // what is in it is incomplete
		return err
	}
	r := w.run
	s.runs = append(s.runs, &r)
	return nil
}

func bytesOfEntries(e []entry) []byte {
	if len(e) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&e[0])), len(e)*entryBytes)
}
