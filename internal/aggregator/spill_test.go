package aggregator

import (
	"os"
	"testing"

	"pgregory.net/rapid"
)

// TestSpillIsMemory: what is put on disk is found again as it is known last, what was not is not found, and what
// is forgotten is the oldest.
func TestSpillIsMemory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		s := &spill{
			dir: dir, keep: rapid.IntRange(0, 6000).Draw(t, "keep"), fan: rapid.IntRange(2, 5).Draw(t, "fan"),
			forgot: func(err error) { t.Fatal(err) },
		}
		defer s.close()
		known := map[ident]entry{}
		var order []map[ident]entry // generations, oldest first
		put := uint64(0)
		for range rapid.IntRange(1, 30).Draw(t, "generations") {
			g := map[ident]entry{}
			var entries []entry
			for range rapid.SampledFrom([]int{0, 1, 7, 300, 900}).Draw(t, "identities") {
				put++
				e := entry{ident: ident{a: put * 0x9e3779b97f4a7c15, b: put}, contentHash: put, at: put}
				if put%13 == 0 && put > 500 { // an older one, voided since
					n := put / 3
					e = entry{ident: ident{a: n * 0x9e3779b97f4a7c15, b: n}, contentHash: put, at: put}
				}
				if _, again := g[e.ident]; again {
					continue
				}
				g[e.ident], known[e.ident] = e, e
				entries = append(entries, e)
			}
			s.add(entries)
			order = append(order, g)
		}
		left := s.kept
		for i := len(order) - 1; i >= 0; i-- {
			for k := range order[i] {
				got, found := s.find(k)
				if left > 0 && !found || found && got != known[k] {
					t.Fatalf("identity %d: found %v %+v, want %+v", k.b, found, got, known[k])
				}
			}
			left -= len(order[i])
		}
		if s.kept > s.keep {
			t.Fatalf("%d identities kept, at most %d wanted", s.kept, s.keep)
		}
		if e, found := s.find(ident{a: 12345, b: 6789}); found {
			t.Fatalf("found what was never put: %+v", e)
		}
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%d files have a name (%v)", len(left), err)
	}
}

// TestSpillForgetsWhatIsDamaged: one bit of the file, and everything on disk is forgotten, so that the warehouse is
// asked; what is added afterwards is remembered again.
func TestSpillForgetsWhatIsDamaged(t *testing.T) {
	t.Parallel()
	forgot := 0
	s := &spill{dir: t.TempDir(), keep: 1 << 20, forgot: func(error) { forgot++ }}
	defer s.close()
	entries := make([]entry, 5000)
	for i := range entries {
		entries[i] = entry{ident: ident{a: uint64(i) * 0x9e3779b97f4a7c15, b: uint64(i)}, at: uint64(i)}
	}
	s.add(entries[:4000])
	s.add(entries[4000:])
	if _, found := s.find(entries[7].ident); !found || forgot > 0 {
		t.Fatalf("before: found %v, forgotten %d times", found, forgot)
	}
	file := s.runs[0].file
	at := int64(s.runs[0].starts[blockOf(entries[7].ident, s.runs[0].bits)])*int64(entryBytes) + 21
	one := make([]byte, 1)
	if _, err := file.ReadAt(one, at); err != nil {
		t.Fatal(err)
	}
	one[0] ^= 4
	if _, err := file.WriteAt(one, at); err != nil {
		t.Fatal(err)
	}
	if _, found := s.find(entries[7].ident); found || forgot != 1 || s.kept != 0 {
		t.Errorf("found %v, forgotten %d times, %d kept", found, forgot, s.kept)
	}
	s.add(entries)
	if e, found := s.find(entries[7].ident); !found || e != entries[7] {
		t.Errorf("afterwards: found %v %+v", found, e)
	}
}

// TestSpillWithoutADisk: a directory that cannot be written costs look-ups and nothing else.
func TestSpillWithoutADisk(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	forgot := 0
	s := &spill{dir: file, keep: 1 << 20, forgot: func(error) { forgot++ }}
	s.add([]entry{{ident: ident{a: 1, b: 2}}})
	if _, found := s.find(ident{a: 1, b: 2}); found || forgot != 1 {
		t.Errorf("found %v, forgotten %d times", found, forgot)
	}
}
