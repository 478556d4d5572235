package usage_test

import (
	"reflect"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// document draws events around usage.metered: members in any order, left out, repeated, misspelt, and
// values of every kind, so that the two paths of the parser are compared where they could differ.
func document(t *rapid.T) string {
	texts := []string{`"a"`, `""`, `"é"`, `"\u0041"`, `"a\u007f"`, "\"a\x7f\"", "\"\u0085\"", `"a\"b"`, `null`, `1`, `true`, `{}`, `"EU"`, `"USER"`, `"mcp"`, `"long enough for eight bytes at a time"`, "\"long enough \xff\"", `"long enough, then é and \\"`}
	times := []string{`"2025-03-01T00:00:00Z"`, `"2025-03-02T00:00:00.5+01:00"`, `"2025-03-01T00:00:00"`, `"2027-03-01T00:00:00Z"`, `"9999-01-01T00:00:00Z"`, `null`, `""`, `7`}
	numbers := []string{`1`, `"1"`, `-1`, `"-0.5"`, `1e3`, `1E-9`, `0`, `-0`, `00`, `"01"`, `1.`, `"+1"`, `1e20`, `0.0000000001`, `true`, `""`, `null`, `"1e3"`, `12345678901234567890`}
	object := func(label string, members [][]string) string {
		n := rapid.IntRange(0, 2*len(members)).Draw(t, label+" members")
		full := rapid.Bool().Draw(t, label+" full") // mostly well-formed, or the interesting paths starve
		var out []string
		if full {
			for i, m := range members {
				if i < 2 || rapid.Bool().Draw(t, label+" has "+m[0]) {
					out = append(out, strconv.Quote(m[0])+":"+rapid.SampledFrom(m[1:3]).Draw(t, m[0]))
				}
			}
			out = rapid.Permutation(out).Draw(t, label+" order")
		} else {
			for range n {
				m := rapid.SampledFrom(members).Draw(t, label+" member")
				out = append(out, strconv.Quote(m[0])+":"+rapid.SampledFrom(m[1:]).Draw(t, m[0]))
			}
		}
		comma := rapid.SampledFrom([]string{",", " ,\n\t"}).Draw(t, label+" comma")
		return "{" + strings.Join(out, comma) + "}"
	}
	with := func(name string, good []string, values []string) []string {
		return append(append([]string{name}, good...), values...)
	}
	text := func(name string) []string { return with(name, []string{`"a"`, `"b"`}, texts) }
	asset := object("asset", [][]string{text("id"), text("name"), with("type", []string{`"USER"`, `"GATEWAY"`}, texts), text("x")})
	consumer := object("consumer", [][]string{text("id"), text("type")})
	dimensions := object("dimensions", [][]string{text("b"), text("a"), text("c"), text("")})
	data := object("data", [][]string{
		text("meter"), with("quantity", []string{`1`, `"2.5"`}, numbers), text("unit"), {"asset", asset, asset, `"a"`}, with("start", times[:2], times), with("end", []string{times[1], times[0]}, times),
		with("region", []string{`"EU"`, `""`}, texts), with("platform", []string{`"mcp"`, `"azure"`}, texts), with("trial_expiry", times[:2], times), {"consumer", consumer, consumer, `[]`}, text("item"), text("item_version"), text("plan"),
		{"dimensions", dimensions, dimensions, `null`}, with("source_seq", []string{`7`, `0`}, numbers), {"actor", `{"id":"a"}`, `{}`, `1`}, {"unknown", `1`, `"x"`},
	})
	return object("event", [][]string{
		text("id"), with("source", []string{`"/a"`, `"urn:x"`}, append(texts, `"a b"`, `"%zz"`, `"1:2"`)), with("specversion", []string{`"1.0"`, `"1.0"`}, append(texts, `1.0`)), {"type", `"usage.metered"`, `"usage.metered"`, `"usage.metered.v1"`, `"user.activity"`, `null`},
		text("subject"), with("time", times[:2], times), {"datacontenttype", `"application/json"`, `"application/json"`, `"text/plain"`, `"x"`, `null`}, text("correlationid"), text("causationid"), text("traceparent"), with("recordedtime", times[:2], times),
		{"data", data, data, `null`, `[]`}, {"ext", `1`, `true`, `1.5`}, {"Ext", `1`, `1`}, {"data_base64", `"e30="`, `null`, `1`},
	})
}

func TestFastAgreesWithStrict(t *testing.T) {
	p, q := usage.NewParser(usage.Limits{Dimensions: 2}), usage.NewParser(usage.Limits{Dimensions: 2})
	rapid.Check(t, func(t *rapid.T) {
		doc := document(t)
		got, faults := p.Event([]byte(doc))
		want, strict := q.Strict([]byte(doc))
		if !reflect.DeepEqual(got, want) || codes(faults) != codes(strict) {
			t.Fatalf("Event(%s)\nfast   %+v %+v %v\nstrict %+v %+v %v", doc, got, got.Metered, codes(faults), want, want.Metered, codes(strict))
		}
	})
}

// The usual forms must not fall off the fast path unnoticed.
func TestFastPathTakes(t *testing.T) {
	p := usage.NewParser(usage.Limits{})
	for _, doc := range []string{
		typical(1), metered(""), metered(`,"source_seq":7`), metered(`,"unit":"Straße"`), " " + strings.ReplaceAll(typical(2), ",", ",\n  ") + "\n",
		metered(`,"asset":{"id":"a","name":"n","type":"USER"},"start":"2025-03-01T00:00:00Z","end":"2025-03-02T00:00:00Z"`),
	} {
		if !p.Fast([]byte(doc)) {
			t.Errorf("%s goes the slow way", doc)
		}
	}
}
