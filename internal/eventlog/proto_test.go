package eventlog_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/countinghouse/countinghouse/internal/eventlog"
)

// chunkType compiles schema/log/chunk.proto, the documented truth.
func chunkType(t *testing.T) protoreflect.MessageDescriptor {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{ImportPaths: []string{"../../schema/log"}}}
	files, err := compiler.Compile(t.Context(), "chunk.proto")
	if err != nil {
		t.Fatal(err)
	}
	return files[0].Messages().ByName("Chunk")
}

// The hand-written codec and a protobuf library given the .proto read each other's bytes, nothing in them
// is unknown to the other, and every field of the .proto is used.
func TestChunkIsTheProto(t *testing.T) {
	t.Parallel()
	typ := chunkType(t)
	used := map[protoreflect.FullName]bool{}
	for _, want := range []*eventlog.Chunk{full(), sample(500, 9)} {
		b := encode(t, want)
		m := dynamicpb.NewMessage(typ)
		if err := proto.Unmarshal(b, m); err != nil {
			t.Fatalf("a protobuf library refuses our bytes: %v", err)
		}
		walk(t, m, used)
		theirs, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var got eventlog.Chunk
		if err := eventlog.DecodeChunk(theirs, &got); err != nil {
			t.Fatalf("we refuse a protobuf library's bytes: %v", err)
		}
		sameChunk(t, &got, want)
	}
	for _, m := range []protoreflect.MessageDescriptor{typ, typ.Fields().ByName("replay_of").Message(),
		typ.Fields().ByName("events").Message(), typ.Fields().ByName("events").Message().Fields().ByName("metered").Message()} {
		for i := range m.Fields().Len() {
			if f := m.Fields().Get(i); !used[f.FullName()] {
				t.Errorf("%s is in chunk.proto, but no sample uses it", f.FullName())
			}
		}
	}
}

func walk(t *testing.T, m protoreflect.Message, used map[protoreflect.FullName]bool) {
	t.Helper()
	if len(m.GetUnknown()) > 0 {
		t.Fatalf("%s: %d bytes are not in chunk.proto", m.Descriptor().FullName(), len(m.GetUnknown()))
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		used[f.FullName()] = true
		if f.Message() == nil {
			return true
		}
		if !f.IsList() {
			walk(t, v.Message(), used)
			return true
		}
		for i := range v.List().Len() {
			walk(t, v.List().Get(i).Message(), used)
		}
		return true
	})
}

// What the library decodes, read by the rules written in the .proto, is what we meant: the two could agree
// on the wire and still disagree on the meaning.
func TestChunkMeaning(t *testing.T) {
	t.Parallel()
	want := sample(30, 3)
	m := dynamicpb.NewMessage(chunkType(t))
	if err := proto.Unmarshal(encode(t, want), m); err != nil {
		t.Fatal(err)
	}
	field := func(m protoreflect.Message, name protoreflect.Name) protoreflect.Value {
		return m.Get(m.Descriptor().Fields().ByName(name))
	}
	strs, uuids := field(m, "strings").List(), field(m, "uuids").Bytes()
	deref := func(m protoreflect.Message, name protoreflect.Name) string {
		switch n := int(field(m, name).Uint()); {
		case n == 0:
			return ""
		case n%2 == 1:
			return strs.Get((n - 1) / 2).String()
		default:
			return hexUUID(uuids[(n/2-1)*16 : n/2*16])
		}
	}
	events := field(m, "events").List()
	for i := range events.Len() {
		e, w := events.Get(i).Message(), want.Events[i]
		p := field(e, "metered").Message()
		packed := field(p, "quantity").Uint()
		mantissa := strconv.FormatUint(packed/10/2, 10) + strings.Repeat("0", 9-int(packed%10))
		if got := hexUUID(field(e, "id_uuid").Bytes()); got != w.ID {
			t.Errorf("id = %s, want %s", got, w.ID)
		}
		if got := deref(e, "source"); got != w.Source {
			t.Errorf("source = %s, want %s", got, w.Source)
		}
		if got := deref(e, "correlation_id"); got != w.CorrelationID {
			t.Errorf("correlation = %s, want %s", got, w.CorrelationID)
		}
		if got := deref(p, "meter"); got != w.Metered.Meter {
			t.Errorf("meter = %s, want %s", got, w.Metered.Meter)
		}
		if ms := field(e, "time_ms").Int() + want.AcceptedAt.Millis(); ms != w.Time.Millis() {
			t.Errorf("time = %d ms, want %d", ms, w.Time.Millis())
		}
		if billionths := w.Metered.Quantity.Big().String(); strings.TrimLeft(mantissa, "0") != strings.TrimLeft(billionths, "0") {
			t.Errorf("quantity = %s billionths, want %s", mantissa, billionths)
		}
	}
}

func hexUUID(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			s.WriteByte('-')
		}
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}
