package aggregator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// A filter on disk is a directory: one file of bare words per segment, and a manifest, written last and
// by rename, that names shard, covered position and checksums. Whatever does not match is thrown away
// and built anew from raw rows: the filter is a cache.

// covered is what a filter knows: every identity stored at or below the position. The hash of the message
// there, which the ledger has too, says in which log.
type covered struct {
	Shard uint16   `json:"shard"` // partition and incarnation
	Seq   uint64   `json:"seq"`
	Hash  [16]byte `json:"hash"` // zero: not known
	// Table is the UUID of the table of events that it was read from: one that was rebuilt may hold identities
	// that a damaged one had lost.
	Table string `json:"table"`
}

func (c covered) mark() warehouse.Mark { return warehouse.Mark{Shard: c.Shard, Seq: c.Seq} }

type manifest struct {
	Format   int               `json:"format"`
	Covered  covered           `json:"covered"`
	Segments []manifestSegment `json:"segments"`
}

type manifestSegment struct {
	File     string `json:"file"`
	Capacity uint64 `json:"capacity"`
	Keys     uint64 `json:"keys"`
	Seed     uint64 `json:"seed"`
	XXH3     uint64 `json:"xxh3"`
}

const manifestFormat = 4

// saveFilter writes the filter to dir. Full segments never change, so they are written once.
func saveFilter(dir string, f *filter, at covered) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("save filter: %w", err)
	}
	m := manifest{Format: manifestFormat, Covered: at}
	for i, s := range f.segments {
		name := fmt.Sprintf("%d-%d.seg", at.Shard, i)
		if i == len(f.segments)-1 {
			name = fmt.Sprintf("%d-%d-%d.seg", at.Shard, i, at.Seq) // still growing: a name per state
		}
		b := bytesOf(s.words)
		if s.file != name {
			if err := writeFile(filepath.Join(dir, name), b); err != nil {
				return fmt.Errorf("save filter segment: %w", err)
			}
			s.file, s.sum = name, xxh3.Hash(b)
		}
		m.Segments = append(m.Segments, manifestSegment{File: name, Capacity: s.capacity, Keys: s.keys, Seed: s.seed, XXH3: s.sum})
	}
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("save filter manifest: %w", err)
	}
	if err := writeFile(filepath.Join(dir, "manifest.json"), b); err != nil {
		return fmt.Errorf("save filter manifest: %w", err)
	}
	return removeOthers(dir, m)
}

// loadFilter reads the filter of dir. Any error means: build it anew.
func loadFilter(dir string) (*filter, covered, error) {
	b, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return nil, covered{}, fmt.Errorf("load filter: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, covered{}, fmt.Errorf("load filter manifest: %w", err)
	}
	if m.Format != manifestFormat || len(m.Segments) == 0 {
		return nil, covered{}, fmt.Errorf("load filter: format %d with %d segments", m.Format, len(m.Segments))
	}
	f := &filter{}
	for i, ms := range m.Segments {
		s, err := loadSegment(filepath.Join(dir, filepath.Base(ms.File)), ms, i == len(m.Segments)-1)
		if err != nil {
			return nil, covered{}, err
		}
		f.segments = append(f.segments, s)
	}
	return f, m.Covered, nil
}

// loadSegment maps a full segment and copies the one that still grows.
func loadSegment(path string, ms manifestSegment, growing bool) (*segment, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load filter segment: %w", err)
	}
	defer func() { _ = file.Close() }() // opened for reading
	size := int(bucketsOf(ms.Capacity) * 8)
	if info, err := file.Stat(); err != nil || info.Size() != int64(size) || size == 0 {
		return nil, fmt.Errorf("load filter segment %s: want %d bytes (%w)", path, size, errors.Join(err, fs.ErrInvalid))
	}
	b, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map filter segment %s: %w", path, err)
	}
	if xxh3.Hash(b) != ms.XXH3 {
		_ = unix.Munmap(b)
		return nil, fmt.Errorf("load filter segment %s: checksum differs", path)
	}
	s := &segment{words: wordsOf(b), capacity: ms.Capacity, keys: ms.Keys, seed: ms.Seed, file: ms.File, sum: ms.XXH3}
	if growing {
		s.words = append([]uint64(nil), s.words...)
		s.file = ""
		_ = unix.Munmap(b)
	}
	return s, nil
}

func bytesOf(w []uint64) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(&w[0])), len(w)*8) }
func wordsOf(b []byte) []uint64 { return unsafe.Slice((*uint64)(unsafe.Pointer(&b[0])), len(b)/8) }

// writeFile writes by rename, synced, so that a crash leaves the old file or the new one.
func writeFile(path string, b []byte) error {
	tmp := path + ".tmp"
	file, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// removeOthers deletes segment files that no manifest names any more.
func removeOthers(dir string, m manifest) error {
	keep := map[string]bool{"manifest.json": true}
	for _, s := range m.Segments {
		keep[s.File] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("clean filter directory: %w", err)
	}
	for _, e := range entries {
		if keep[e.Name()] || e.IsDir() {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("clean filter directory: %w", err)
		}
	}
	return nil
}
