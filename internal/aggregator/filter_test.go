package aggregator

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestFilterForgetsNothing: a filter may say "perhaps" too often, never "never seen" of what was added,
// through every growth and through the disk.
func TestFilterForgetsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFilter(256)
	rnd := rand.New(rand.NewPCG(7, 7))
	var keys []uint64
	at := covered{Shard: 3, Hash: [16]byte{1, 15: 9}}
	for round := range 6 {
		for range 700 {
			k := rnd.Uint64()
			keys = append(keys, k)
			f.add(k)
		}
		at.Seq = uint64(round + 1)
		if err := saveFilter(dir, f, at); err != nil {
			t.Fatal(err)
		}
		loaded, got, err := loadFilter(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got != at || loaded.size() != uint64(len(keys)) {
			t.Fatalf("round %d: loaded %+v with %d keys, want %+v with %d", round, got, loaded.size(), at, len(keys))
		}
		for _, k := range keys {
			if !f.has(k) || !loaded.has(k) {
				t.Fatalf("round %d: %x was forgotten (memory %v, disk %v)", round, k, f.has(k), loaded.has(k))
			}
		}
		f = loaded // the next round grows what came from disk
	}
	wrong := 0
	const strangers = 100_000
	for range strangers {
		if f.has(rnd.Uint64()) {
			wrong++
		}
	}
	if wrong > strangers/500 { // 0.01 % a segment, five of them
		t.Errorf("%d of %d strangers were 'perhaps'", wrong, strangers)
	}
}

// TestFullSegmentKeepsItsKeys: beyond what a segment is made for keys find no place some day. The one that finds
// none leaves the others as they are.
func TestFullSegmentKeepsItsKeys(t *testing.T) {
	t.Parallel()
	s := newSegment(1000)
	rnd := rand.New(rand.NewPCG(3, 3))
	var keys []uint64
	for refused := 0; refused < 5; {
		k := rnd.Uint64()
		before := slices.Clone(s.words)
		if s.add(k) {
			keys = append(keys, k)
			continue
		}
		refused++
		if !slices.Equal(before, s.words) {
			t.Fatal("a key that found no place moved others")
		}
	}
	if len(keys) < 1000 {
		t.Errorf("full with %d keys, made for 1000", len(keys))
	}
	for _, k := range keys {
		if !s.has(k) {
			t.Fatalf("%x was forgotten", k)
		}
	}
}

// TestOneKeyForEver: the same hash again takes no second place, and what has no fingerprint of its own is found.
func TestOneKeyForEver(t *testing.T) {
	t.Parallel()
	f := newFilter(64)
	for range 10_000 {
		f.add(0)
	}
	used := 0
	for _, s := range f.segments {
		for _, w := range s.words {
			for ; w != 0; w >>= 16 {
				used += min(1, int(w&0xffff))
			}
		}
	}
	if !f.has(0) || used > len(f.segments) {
		t.Errorf("found %v, %d places in %d segments", f.has(0), used, len(f.segments))
	}
}

// TestDamagedFilterIsRefused: whatever does not match its manifest is thrown away, never trusted.
func TestDamagedFilterIsRefused(t *testing.T) {
	t.Parallel()
	damage := map[string]func(t *testing.T, dir string, segment string){
		"bit flipped": func(t *testing.T, _, segment string) {
			b := read(t, segment)
			b[len(b)/2] ^= 4
			write(t, segment, b)
		},
		"segment cut short": func(t *testing.T, _, segment string) { b := read(t, segment); write(t, segment, b[:len(b)-8]) },
		"segment missing": func(t *testing.T, _, segment string) {
			if err := os.Remove(segment); err != nil {
				t.Fatal(err)
			}
		},
		"manifest garbled": func(t *testing.T, dir, _ string) {
			write(t, filepath.Join(dir, "manifest.json"), []byte(`{"format":4`))
		},
		"other format": func(t *testing.T, dir, _ string) {
			write(t, filepath.Join(dir, "manifest.json"), []byte(`{"format":3}`))
		},
	}
	for name, do := range damage {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f := newFilter(64)
			for i := range uint64(500) {
				f.add(i * 0x9E3779B97F4A7C15)
			}
			if err := saveFilter(dir, f, covered{Shard: 1, Seq: 9}); err != nil {
				t.Fatal(err)
			}
			segments, err := filepath.Glob(filepath.Join(dir, "*.seg"))
			if err != nil || len(segments) < 2 {
				t.Fatalf("segments %v: %v", segments, err)
			}
			do(t, dir, segments[0])
			if _, _, err := loadFilter(dir); err == nil {
				t.Error("loaded without a word")
			}
		})
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
