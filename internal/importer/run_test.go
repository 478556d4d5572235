package importer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/countinghouse/countinghouse/internal/client"
	"github.com/countinghouse/countinghouse/internal/importer"
	"github.com/countinghouse/countinghouse/internal/problem"
)

// door stands for ingest: it keeps ids, refuses quantity 13, and can fail for good after some requests.
type door struct {
	mu    sync.Mutex
	ids   []string
	calls int
	limit int // requests until it fails; 0: never
}

var errDoor = errors.New("door closed")

func (d *door) SendEvents(_ context.Context, batch []byte) (client.Receipt, error) {
	for range rand.IntN(3) {
		runtime.Gosched() // answers come in any order
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.calls++; d.limit > 0 && d.calls > d.limit {
		return client.Receipt{}, errDoor
	}
	var events []struct {
		ID   string
		Data struct{ Quantity string }
	}
	if err := json.Unmarshal(batch, &events); err != nil {
		return client.Receipt{}, err
	}
	r := client.Receipt{}
	for i, e := range events {
		if e.Data.Quantity == "13" {
			r.Rejected++
			r.Errors = append(r.Errors,
				problem.Item{Index: &i, Pointer: "/data/quantity", Code: "unlucky", Detail: "is 13"},
				problem.Item{Index: &i, Pointer: "/data/quantity", Code: "unlucky", Detail: "said twice"})
			continue
		}
		r.Accepted++
		d.ids = append(d.ids, e.ID)
	}
	return r, nil
}

const runMapping = "format: csv\nsource: s\ntime: {from: t, layout: unix}\nevents: [{id: '{line}', data: {meter: m, quantity: '{n}'}}, {id: '{line}:b', data: {meter: b, quantity: '1'}}]\n"

func rows(n int) string {
	var b strings.Builder
	b.WriteString("t,n\n")
	for i := range n {
		q := fmt.Sprint(i)
		if i == 40 {
			q = `"` // a broken quote
		}
		fmt.Fprintf(&b, "%d,%s\n", 1_700_000_000+i, q)
		if i == 40 {
			b.WriteString("\"\n")
		}
	}
	return b.String()
}

func run(t *testing.T, to importer.Sender, text string, opt importer.Options) (importer.Summary, error) {
	t.Helper()
	in, err := importer.NewInput("x.csv", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return importer.Run(t.Context(), in, parse(t, runMapping), to, opt)
}

func TestRun(t *testing.T) {
	d := &door{}
	var lines []int
	sum, err := run(t, d, "t,n\n"+strings.Repeat("1,1\n", 500)+"1,13\n,5\n1,1\n", importer.Options{
		Batch: 7, Progress: func(s importer.Summary) { lines = append(lines, s.Line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if sum.Read != 503 || sum.Sent != 1004 || sum.Accepted != 1003 || sum.Rejected != 2 || sum.Line != 504 {
		t.Errorf("summary %+v", sum)
	}
	if len(sum.Faults) != 2 || sum.Faults[0].Line != 502 || sum.Faults[0].ID != "502" || sum.Faults[1].Line != 503 {
		t.Errorf("faults %+v, want lines 502 and 503", sum.Faults)
	}
	if !slices.IsSorted(lines) {
		t.Errorf("progress went back: %v", lines)
	}
	slices.Sort(d.ids)
	if n := len(slices.Compact(slices.Clone(d.ids))); n != 1003 {
		t.Errorf("%d ids, %d distinct", len(d.ids), n)
	}
}

// TestResume kills an import at every request and goes on from what it knew to be acknowledged: every
// event arrives, at least once, and what was acknowledged is not sent again.
func TestResume(t *testing.T) {
	const n = 60
	text := rows(n)
	whole := &door{}
	if _, err := run(t, whole, text, importer.Options{Batch: 5}); err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(slices.Values(whole.ids))
	for limit := 1; limit < whole.calls; limit++ {
		d := &door{limit: limit}
		first, err := run(t, d, text, importer.Options{Batch: 5, InFlight: 3})
		if !errors.Is(err, errDoor) {
			t.Fatalf("limit %d: error %v", limit, err)
		}
		d.limit = 0
		sent := len(d.ids)
		second, err := run(t, d, text, importer.Options{Batch: 5, InFlight: 3, From: first.Line})
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Compact(slices.Sorted(slices.Values(d.ids))); !slices.Equal(got, want) {
			t.Errorf("limit %d: %d events after resuming at line %d, want %d", limit, len(got), first.Line, len(want))
		}
		if first.Accepted+second.Accepted > len(d.ids) || len(d.ids)-sent != second.Accepted {
			t.Errorf("limit %d: accepted %d and %d, but %d arrived", limit, first.Accepted, second.Accepted, len(d.ids))
		}
	}
}

func TestState(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "a.csv")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open := func(mapping, target string) *importer.State {
		s, err := importer.OpenState(dir, file, mapping, target)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	write("one")
	s := open("m", "http://a")
	s.Line, s.Accepted = 7, 70
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	if got := open("m", "http://a"); got.Line != 7 || got.Accepted != 70 {
		t.Errorf("state %+v, want line 7", got)
	}
	if got := open("m", "http://b").Line + open("n", "http://a").Line; got != 0 {
		t.Errorf("another target or mapping went on at line %d", got)
	}
	write("two")
	if got := open("m", "http://a"); got.Line != 0 {
		t.Errorf("another content went on at line %d", got.Line)
	}
}

func BenchmarkRun(b *testing.B) {
	text := "t,n\n" + strings.Repeat("1700000000,1\n", 10_000)
	m, err := importer.ParseMapping("m", []byte(runMapping))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		in, err := importer.NewInput("x", strings.NewReader(text))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := importer.Run(b.Context(), in, m, nowhere{}, importer.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

type nowhere struct{}

func (nowhere) SendEvents(context.Context, []byte) (client.Receipt, error) {
	return client.Receipt{Accepted: 500}, nil
}
