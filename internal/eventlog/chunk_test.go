package eventlog_test

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

var update = flag.Bool("update", false, "rewrite golden files")

const accepted = 1_788_000_000_123_456_789 // 2026-08-29

// sample is a chunk of n usage events as a busy product sends them: random UUID ids, a hundred accounts,
// ten events a request.
func sample(n int, seed uint64) *eventlog.Chunk {
	r := rand.New(rand.NewPCG(seed, 1))
	c := &eventlog.Chunk{AcceptedAt: usage.At(accepted)}
	correlation := ""
	for i := range n {
		if i%10 == 0 {
			correlation = randomUUID(r)
		}
		c.Events = append(c.Events, usage.Event{
			Source: "/gateway/eu-1", ID: randomUUID(r), Type: usage.TypeMetered,
			Subject:       fmt.Sprintf("acc-%04d", r.IntN(100)),
			Time:          usage.At((accepted/1_000_000 - r.Int64N(60_000)) * 1_000_000),
			CorrelationID: correlation, CausationID: correlation,
			Filled: usage.FilledCorrelation | usage.FilledCausation,
			Metered: &usage.Metered{
				Meter: "tokens", Quantity: usage.Int(r.Int64N(100_000)), Region: "eu-central", Platform: "api",
				AssetID:    fmt.Sprintf("model-%d", r.IntN(8)),
				Dimensions: []usage.Dimension{{Key: "direction", Value: []string{"in", "out"}[r.IntN(2)]}},
			},
		})
	}
	return c
}

func randomUUID(r *rand.Rand) string {
	var u uuid.UUID
	for i := range u {
		u[i] = byte(r.Uint32())
	}
	return u.String()
}

// full is a chunk that uses every field of the format, each in every form.
func full() *eventlog.Chunk {
	c := sample(3, 7)
	c.Backfill = true
	c.ReplayOf = &eventlog.Position{Shard: 1 | 3<<10, Seq: 1 << 40, Idx: 499}
	e := &c.Events[0]
	e.ID, e.CausationID, e.TraceParent = "plain id ✓", randomUUID(rand.New(rand.NewPCG(3, 3))), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	e.RecordedTime = usage.At(1)
	e.Extensions, e.Data = `{"myext":"x"}`, `{"actor":{"id":"u1"}}`
	*e.Metered = usage.Metered{
		Meter: "asset_hours", Quantity: quantity("-99999999999999999999.999999999"), Unit: "h",
		AssetID: randomUUID(rand.New(rand.NewPCG(4, 4))), AssetName: "Ærø", AssetType: "vm", Start: usage.At(0), End: usage.At(accepted),
		TrialExpiry: usage.At(7_258_118_399_999_999_999), Region: "eu", Platform: "p", ConsumerID: "c", ConsumerType: "user",
		Item: "i", ItemVersion: "2", Plan: "Gold", Dimensions: []usage.Dimension{{Key: "a", Value: ""}, {Key: "b", Value: "Ærø"}, {Key: "c", Value: e.ID}},
	}
	c.Events[1].Metered.Start, c.Events[1].Metered.End = usage.At(accepted+1), usage.At(accepted+2_000_001)
	c.Events[1].Metered.Quantity = quantity("0.000000001")
	c.Events[2].RecordedTime = usage.At(2_000_000)
	c.Events[2].Metered.Start, c.Events[2].Metered.End, c.Events[2].Metered.TrialExpiry = usage.At(0), usage.At(3_000_000), usage.At(7_000_000)
	void := usage.Event{Source: "s", ID: "v", Type: usage.TypeVoided, Target: usage.Identity{Source: "/gateway/eu-1", ID: "x"}, Data: `{"reason":"wrong"}`}
	charge := usage.Event{Source: "s", ID: "w", Type: usage.TypeCharged, Credits: quantity("12.5"), Data: `{"message_id":"m"}`, Time: usage.At(accepted - 5)}
	elastic := usage.Event{Source: "s", ID: "e", Type: usage.TypeElastic, Credits: quantity("99999999999999999999999999999.999999999"), Data: `{}`}
	c.Events = append(c.Events, void, charge, elastic)
	return c
}

// quantity parses a decimal the slow way, independent of the package under test.
func quantity(s string) usage.Quantity {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		panic(s)
	}
	n := new(big.Int).Mul(r.Num(), big.NewInt(1_000_000_000))
	n.Quo(n, r.Denom())
	neg := n.Sign() < 0
	n.Abs(n)
	q := usage.Quantity{Lo: n.Uint64(), Hi: new(big.Int).Rsh(n, 64).Int64()}
	if neg {
		return q.Neg()
	}
	return q
}

func encode(t testing.TB, c *eventlog.Chunk) []byte {
	t.Helper()
	b, err := eventlog.EncodeChunk(nil, c)
	if err != nil {
		t.Fatalf("EncodeChunk: %v", err)
	}
	return b
}

func sameChunk(t testing.TB, got, want *eventlog.Chunk) {
	t.Helper()
	if got.AcceptedAt != want.AcceptedAt || got.Backfill != want.Backfill || !reflect.DeepEqual(got.ReplayOf, want.ReplayOf) {
		t.Fatalf("header: got %+v %+v, want %+v %+v", got.AcceptedAt, got.ReplayOf, want.AcceptedAt, want.ReplayOf)
	}
	if len(got.Events) != len(want.Events) {
		t.Fatalf("%d events, want %d", len(got.Events), len(want.Events))
	}
	for i := range got.Events {
		if !reflect.DeepEqual(got.Events[i], want.Events[i]) {
			t.Fatalf("event %d:\n got %+v %+v\nwant %+v %+v", i, got.Events[i], got.Events[i].Metered, want.Events[i], want.Events[i].Metered)
		}
	}
}

func TestChunkRoundTrip(t *testing.T) {
	t.Parallel()
	var got eventlog.Chunk // one for all: reuse must leave nothing behind
	for _, want := range []*eventlog.Chunk{full(), sample(500, 1), sample(1, 2), full()} {
		b := encode(t, want)
		if err := eventlog.DecodeChunk(b, &got); err != nil {
			t.Fatalf("DecodeChunk: %v", err)
		}
		sameChunk(t, &got, want)
		sum := 16
		for i := range want.Events {
			sum += eventlog.SizeBound(&want.Events[i])
		}
		if len(b) > sum+48 {
			t.Errorf("%d bytes, SizeBound promised %d", len(b), sum)
		}
	}
}

func TestDecodedStringsSurviveReuse(t *testing.T) {
	t.Parallel()
	var c eventlog.Chunk
	first := sample(20, 1)
	if err := eventlog.DecodeChunk(encode(t, first), &c); err != nil {
		t.Fatal(err)
	}
	id, correlation, account := c.Events[3].ID, c.Events[3].CorrelationID, c.Events[3].Subject
	if err := eventlog.DecodeChunk(encode(t, sample(20, 2)), &c); err != nil {
		t.Fatal(err)
	}
	if id != first.Events[3].ID || correlation != first.Events[3].CorrelationID || account != first.Events[3].Subject {
		t.Errorf("strings of the first decode changed: %q %q %q", id, correlation, account)
	}
}

// The stored format may never change silently: old chunks are read for ever.
func TestChunkGolden(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*eventlog.Chunk{"v1_full": full(), "v1_sample": sample(12, 42)} {
		path := "testdata/" + name + ".hex"
		b := encode(t, c)
		if *update {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(b)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if string(b) != string(want) {
			t.Errorf("%s: encoding changed; a new format needs a new number (schema/log/README.md)", name)
		}
		var got eventlog.Chunk
		if err := eventlog.DecodeChunk(want, &got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sameChunk(t, &got, c)
	}
}

func TestChunkSize(t *testing.T) {
	t.Parallel()
	b := encode(t, sample(100, 5))
	t.Logf("%.1f bytes an event", float64(len(b))/100)
	if len(b) > 60*100 {
		t.Errorf("%d bytes for 100 events, want at most 60 each", len(b))
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(c *eventlog.Chunk)
		code   string
		event  int
	}{
		"no events":         {func(c *eventlog.Chunk) { c.Events = nil }, eventlog.CodeLimit, -1},
		"501 events":        {func(c *eventlog.Chunk) { *c = *sample(501, 1) }, eventlog.CodeLimit, -1},
		"no accepted_at":    {func(c *eventlog.Chunk) { c.AcceptedAt = usage.Instant{} }, eventlog.CodeTime, -1},
		"before 1970":       {func(c *eventlog.Chunk) { c.Events[1].Time = usage.At(-1) }, eventlog.CodeTime, 1},
		"year 2200":         {func(c *eventlog.Chunk) { c.Events[1].Time = usage.At(7_258_118_400_000_000_000) }, eventlog.CodeTime, 1},
		"start without end": {func(c *eventlog.Chunk) { c.Events[2].Metered.Start = usage.At(1) }, eventlog.CodeRequired, 2},
		"quantity 1e20":     {func(c *eventlog.Chunk) { c.Events[0].Metered.Quantity = quantity("100000000000000000000") }, eventlog.CodeQuantity, 0},
		"quantity -1e20":    {func(c *eventlog.Chunk) { c.Events[0].Metered.Quantity = quantity("-100000000000000000000") }, eventlog.CodeQuantity, 0},
		"quantity min":      {func(c *eventlog.Chunk) { c.Events[0].Metered.Quantity = usage.Quantity{Hi: math.MinInt64} }, eventlog.CodeQuantity, 0},
		"credits 1e29":      {func(c *eventlog.Chunk) { c.Events[0].Credits = quantity("100000000000000000000000000000") }, eventlog.CodeQuantity, 0},
		"no id":             {func(c *eventlog.Chunk) { c.Events[0].ID = "" }, eventlog.CodeRequired, 0},
		"no source":         {func(c *eventlog.Chunk) { c.Events[0].Source = "" }, eventlog.CodeRequired, 0},
		"no type":           {func(c *eventlog.Chunk) { c.Events[0].Type = "" }, eventlog.CodeRequired, 0},
		"no meter":          {func(c *eventlog.Chunk) { c.Events[0].Metered.Meter = "" }, eventlog.CodeRequired, 0},
		"no payload":        {func(c *eventlog.Chunk) { c.Events[0].Metered = nil }, eventlog.CodeRequired, 0},
		"payload elsewhere": {func(c *eventlog.Chunk) { c.Events[0].Type = usage.TypeActivity }, eventlog.CodeRequired, 0},
		"void of nothing":   {func(c *eventlog.Chunk) { c.Events[0] = usage.Event{Source: "s", ID: "i", Type: usage.TypeVoided} }, eventlog.CodeRequired, 0},
		"target elsewhere":  {func(c *eventlog.Chunk) { c.Events[0].Target.ID = "x" }, eventlog.CodeSyntax, 0},
		"bad utf-8 id":      {func(c *eventlog.Chunk) { c.Events[0].ID = "\xff" }, eventlog.CodeText, 0},
		"bad utf-8 region":  {func(c *eventlog.Chunk) { c.Events[0].Metered.Region = "\xff" }, eventlog.CodeText, 0},
		"data no object":    {func(c *eventlog.Chunk) { c.Events[0].Data = "[]" }, eventlog.CodeData, 0},
		"data of an extra type broken": {func(c *eventlog.Chunk) {
			c.Events[0] = usage.Event{Source: "s", ID: "1", Type: "com.example.note", Data: `"text`}
		}, eventlog.CodeData, 0},
		"data broken": {func(c *eventlog.Chunk) { c.Events[0].Data = `{"a":1,"a":2}` }, eventlog.CodeData, 0},
		"dimensions": {func(c *eventlog.Chunk) {
			c.Events[0].Metered.Dimensions = []usage.Dimension{{Key: "b", Value: ""}, {Key: "a", Value: ""}}
		}, eventlog.CodeData, 0},
		"filled nothing": {func(c *eventlog.Chunk) { c.Events[0].CausationID = "" }, eventlog.CodeRequired, 0},
		"too large": {func(c *eventlog.Chunk) {
			c.Events[0].Source = strings.Repeat("x", 200<<10)
			c.Events[1].Source = strings.Repeat("y", 200<<10)
		}, eventlog.CodeLimit, -1},
		"event too large":   {func(c *eventlog.Chunk) { c.Events[0].Source = strings.Repeat("x", 257<<10) }, eventlog.CodeLimit, 0},
		"replay of nothing": {func(c *eventlog.Chunk) { c.ReplayOf = &eventlog.Position{} }, eventlog.CodeRequired, -1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := sample(3, 1)
			tt.change(c)
			b, err := eventlog.EncodeChunk([]byte("kept"), c)
			var fault *eventlog.ChunkError
			if !errors.As(err, &fault) || fault.Code != tt.code || fault.Event != tt.event {
				t.Errorf("EncodeChunk = %v, want code %s at event %d", err, tt.code, tt.event)
			}
			if string(b) != "kept" {
				t.Errorf("dst changed to %d bytes", len(b))
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	good := encode(t, sample(3, 1))
	tests := map[string]struct {
		in   []byte
		code string
	}{
		"empty":          {nil, eventlog.CodeVersion},
		"json":           {[]byte(`{"specversion":"1.0"}`), eventlog.CodeVersion},
		"format 2":       {append([]byte{8, 2}, good[2:]...), eventlog.CodeVersion},
		"no events":      {good[:11], eventlog.CodeLimit},
		"cut off":        {good[:len(good)-1], eventlog.CodeSyntax},
		"unknown field":  {append(append([]byte{}, good...), 8<<3, 1), eventlog.CodeSyntax},
		"too long":       {make([]byte, eventlog.ChunkBytesMax+1), eventlog.CodeLimit},
		"accepted 1969":  {append([]byte{8, 1, 17, 255, 255, 255, 255, 255, 255, 255, 255}, good[11:]...), eventlog.CodeTime},
		"bad dictionary": {append(append([]byte{}, good[:11]...), 3<<3|2, 1, 0xff), eventlog.CodeText},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var c eventlog.Chunk
			var fault *eventlog.ChunkError
			if err := eventlog.DecodeChunk(tt.in, &c); !errors.As(err, &fault) || fault.Code != tt.code || fault.Event != -1 {
				t.Errorf("DecodeChunk = %v, want code %s", err, tt.code)
			}
		})
	}
}

// One rotten event does not take its neighbours with it (row 19 of docs/explanation/what-we-survived.md).
func TestDecodeKeepsNeighbours(t *testing.T) {
	t.Parallel()
	want := sample(3, 1)
	b := encode(t, want)
	// Turn the second event's first field number into one that does not exist.
	second := strings.Index(string(b), string(rawID(t, want.Events[1].ID)))
	b[second-2] = 31<<3&0x7f | 2
	var c eventlog.Chunk
	var partial *eventlog.PartialError
	if err := eventlog.DecodeChunk(b, &c); !errors.As(err, &partial) {
		t.Fatalf("DecodeChunk = %v, want a PartialError", err)
	}
	if len(partial.Faults) != 1 || partial.Faults[0].Event != 1 || partial.Faults[0].Code != eventlog.CodeSyntax {
		t.Errorf("faults = %v", partial)
	}
	for _, i := range []int{0, 2} {
		if !reflect.DeepEqual(c.Events[i], want.Events[i]) {
			t.Errorf("event %d = %+v, want %+v", i, c.Events[i], want.Events[i])
		}
	}
	if !reflect.DeepEqual(c.Events[1], usage.Event{}) {
		t.Errorf("refused event = %+v, want zero", c.Events[1])
	}
}

func rawID(t *testing.T, id string) []byte {
	t.Helper()
	u, err := uuid.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	return u[:]
}

func FuzzDecodeChunk(f *testing.F) {
	f.Add(encode(f, full()))
	f.Add(encode(f, sample(2, 1)))
	var again, c eventlog.Chunk
	f.Fuzz(func(t *testing.T, in []byte) {
		err := eventlog.DecodeChunk(in, &c)
		if err != nil {
			var whole *eventlog.ChunkError
			var partial *eventlog.PartialError
			if !errors.As(err, &whole) && !errors.As(err, &partial) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		b, err := eventlog.EncodeChunk(nil, &c)
		var fault *eventlog.ChunkError
		if errors.As(err, &fault) && fault.Code == eventlog.CodeLimit {
			return // spelled shorter than the encoder spells it
		}
		if err != nil {
			t.Fatalf("decoded but does not encode: %v", err)
		}
		if err := eventlog.DecodeChunk(b, &again); err != nil {
			t.Fatalf("encoded but does not decode: %v", err)
		}
		sameChunk(t, &again, &c)
	})
}

func BenchmarkEncodeChunk(b *testing.B) {
	c := sample(100, 1)
	dst, err := eventlog.EncodeChunk(nil, c)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if dst, err = eventlog.EncodeChunk(dst[:0], c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds()/1e6, "Mevents/s")
}

func BenchmarkDecodeChunk(b *testing.B) {
	in := encode(b, sample(100, 1))
	var c eventlog.Chunk
	b.ReportAllocs()
	for b.Loop() {
		if err := eventlog.DecodeChunk(in, &c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds()/1e6, "Mevents/s")
}
