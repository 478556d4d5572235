package usage_test

import (
	"bytes"
	"math/big"
	"reflect"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/usage"
)

func seed(f *testing.F) {
	for _, s := range []string{
		typical(1), metered(""), attrs(`,"ext":true`), elastic(line(1, okLine)), ``, `{}`, `[]`, `null`,
		metered(`,"unit":"","asset":{"id":"a","type":"USER","name":"é"},"region":"EU","start":"2025-03-01T00:00:00Z","end":"2025-03-02T00:00:00+01:00"`),
		metered(`,"dimensions":{"b":"1","a":"2"},"source_seq":7,"consumer":{"id":"x","type":"y"},"plan":"p","item":"i","item_version":"v","platform":"mcp","trial_expiry":"2025-03-10T00:00:00Z"`),
		metered(`,"source_seq":07`), metered(`,"quantity":1`), metered(`,"unit":"\u0041\ud83d\ude00"`), metered(",\"unit\":\"\x7f\u0085\uffff\""),
		strings.Replace(metered(""), `"id"`, `"traceparent":"00","recordedtime":"2025-01-01T00:00:00Z","correlationid":"a","causationid":"b","datacontenttype":"application/json","id"`, 1),
		strings.Replace(metered(""), `"3"`, `1e-9`, 1), strings.Replace(metered(""), `"3"`, `-0`, 1), strings.Replace(metered(""), `"3"`, `+3`, 1),
		wrap("message.charged", `{"message_id":"m","user_id":"u","channel":"voice","credits":2}`),
		wrap("user.activity", `{"user_id":"u","kind":"login","result":"success","actor":{"name":"\"result\":\"success\""}}`),
		wrap("event.voided", `{"target":{"source":"/s","id":"1"},"reason":"r"}`),
		wrap("account.created", `{"name":"Acme","kind":"other","trial_ends_at":"2025-01-01T00:00:00.5+05:30"}`),
		wrap("com.example", `{"b":[1.50e3,{"z":null,"a":false}]}`), wrap("com.example", `1e-4000`),
		`{"specversion":"1.0","id":"1","source":"#f","type":"com.example","datacontenttype":"image/png","data_base64":"/+8="}`,
		`{"specversion":"1.0","id":"1","source":"#f","type":"com.example","datacontenttype":"text/xml; charset=iso-8859-1","data":"<a/>"}`,
	} {
		f.Add([]byte(s))
	}
}

// The fast path may only be faster: where it accepts, the strict path accepts the same event.
func FuzzFastAgreesWithStrict(f *testing.F) {
	seed(f)
	p, q := usage.NewParser(usage.Limits{}), usage.NewParser(usage.Limits{})
	f.Fuzz(func(t *testing.T, doc []byte) {
		got, faults := p.Event(doc)
		want, strict := q.Strict(doc)
		if !reflect.DeepEqual(got, want) || codes(faults) != codes(strict) {
			t.Fatalf("Event(%q)\nfast   %+v %+v %v\nstrict %+v %+v %v", doc, got, got.Metered, codes(faults), want, want.Metered, codes(strict))
		}
	})
}

// Accepting and then changing is the bug: what is written again reads as the same event, with the same
// hash, and the canonical text is its own canonical text.
func FuzzRoundTrip(f *testing.F) {
	seed(f)
	p := usage.NewParser(usage.Limits{ExtraTypes: []string{"com.example"}})
	f.Fuzz(func(t *testing.T, doc []byte) {
		first, faults := p.Event(doc)
		if len(faults) > 0 {
			return // refusing is always allowed
		}
		if first.Type == usage.TypeElastic { // its lines are read from data, by who takes an error for damage
			op, err := usage.ReadElastic(first.Data)
			if err != nil || len(op.Lines) == 0 {
				t.Fatalf("ReadElastic(%s) = %+v, %v", first.Data, op, err)
			}
		}
		text := usage.AppendJSON(nil, &first)
		second, faults := p.Event(text)
		if len(faults) == 1 && faults[0].Code == usage.CodeTooLarge {
			return // 1e9 is longer when written out
		}
		if len(faults) > 0 || !reflect.DeepEqual(first, second) || usage.ContentHash(&first) != usage.ContentHash(&second) {
			t.Fatalf("%q -> %s -> %v\n%+v\n%+v", doc, text, codes(faults), first, second)
		}
		if again := usage.AppendJSON(nil, &second); !bytes.Equal(text, again) {
			t.Fatalf("%s -> %s", text, again)
		}
		first.Count()
	})
}

// Batch must find the same events as Event does one by one, and never panic.
func FuzzBatch(f *testing.F) {
	f.Add([]byte(metered("")), []byte(metered(`,"x":1`)))
	f.Add([]byte(`1`), []byte(`"\ud800"`))
	p := usage.NewParser(usage.Limits{})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		docs := [][]byte{a, b}
		doc := bytes.Join([][]byte{[]byte("["), a, []byte(" , "), b, []byte("]")}, nil)
		err := p.Batch(doc, func(i int, raw []byte, e usage.Event, faults []usage.Fault) error {
			if i >= len(docs) || !bytes.Equal(bytes.Trim(raw, " \t\r\n"), bytes.Trim(docs[i], " \t\r\n")) {
				return nil // the two texts make another array than meant
			}
			want, strict := p.Strict(bytes.Clone(raw))
			if !reflect.DeepEqual(want, e) || codes(strict) != codes(faults) {
				t.Fatalf("event %d of %q: %+v %v, alone %+v %v", i, doc, e, codes(faults), want, codes(strict))
			}
			return nil
		})
		_ = err
	})
}

func FuzzQuantity(f *testing.F) {
	for _, s := range []string{"0", "-0", "1", "1.0", "1e3", "-0.5", "0.000000001", "99999999999999999999.999999999", "1e19", "1e20", "1E-9", "10e-10", "00", "1.", ".5", "1e", "123456789012345678901234567890"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := usage.ParseQuantity([]byte(s))
		if err != nil {
			return
		}
		if q.IsZero() || len(s) > 200 {
			return // exponents of zero have no bound, but big.Rat has one
		}
		want, ok := new(big.Rat).SetString(s)
		if !ok || new(big.Rat).SetFrac(q.Big(), big.NewInt(1e9)).Cmp(want) != 0 {
			t.Fatalf("ParseQuantity(%q) = %s", s, q)
		}
		if again, err := usage.ParseQuantity([]byte(q.String())); err != nil || again != q {
			t.Fatalf("%q -> %s -> %s, %v", s, q, again, err)
		}
	})
}

func FuzzInstant(f *testing.F) {
	for _, s := range []string{"2025-03-01T10:00:00Z", "2024-02-29T23:59:59.999999999-05:00", "2016-12-31T23:59:60Z", "2025-03-01t10:00:00z", "1969-12-31T23:59:59Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		i, err := usage.ParseInstant(s)
		if err != nil {
			return
		}
		if again, err := usage.ParseInstant(i.String()); err != nil || again != i {
			t.Fatalf("%q -> %s -> %s, %v", s, i, again, err)
		}
	})
}
