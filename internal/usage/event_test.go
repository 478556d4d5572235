package usage_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/usage"
)

func parse(t testing.TB, doc string) usage.Event {
	t.Helper()
	e, faults := usage.NewParser(usage.Limits{}).Event([]byte(doc))
	if len(faults) > 0 {
		t.Fatalf("%s: %v", doc, codes(faults))
	}
	return e
}

func TestCount(t *testing.T) {
	tests := map[string]struct{ in, meter, quantity string }{
		"metered":                       {metered(""), "tokens", "3"},
		"metered zero":                  {strings.Replace(metered(""), `"3"`, "0", 1), "tokens", "0"},
		"sms":                           {wrap("message.charged", `{"message_id":"m","user_id":"u","channel":"sms","credits":1}`), "sms_credits", "1"},
		"voice":                         {wrap("message.charged", `{"message_id":"m","user_id":"u","channel":"voice","credits":"2"}`), "voice_credits", "2"},
		"a message that says voice":     {wrap("message.charged", `{"message_id":"\"channel\":\"voice\"","user_id":"u","channel":"sms","credits":1}`), "sms_credits", "1"},
		"credit returned":               {wrap("message.credit_returned", `{"message_id":"m","credits":2}`), "credits_returned", "-2"},
		"login":                         {wrap("user.activity", `{"user_id":"u","kind":"login","result":"success"}`), "activity", "1"},
		"failed login":                  {wrap("user.activity", `{"user_id":"u","kind":"\"result\":\"success\"","result":"failure"}`), "", "0"},
		"elastic D1":                    {elastic(line(1, okLine), line(2, `"item_quantity":2,"response":101,"meter_cost":7,"meter_quantity":14`)), "elastic token", "44"},
		"elastic refund":                {elastic(line(1, `"item_quantity":-1,"response":101,"meter_cost":7,"meter_quantity":-7,"refund_of":{"correlation_id":"c","line_no":1}`)), "elastic token", "-7"},
		"elastic partly denied":         {elastic(line(1, okLine), line(2, `"item_quantity":2,"response":201,"meter_quantity":0`)), "elastic token", "30"},
		"elastic denied":                {elastic(line(1, `"item_quantity":2,"response":102,"meter_cost":7,"meter_quantity":0`)), "", "0"},
		"elastic denied, says 101 once": {elastic(line(1, `"item_quantity":2,"response":102,"meter_quantity":0,"meta_data":{"response":"101","lines":[{"response":"101"}]}`)), "", "0"},
		"elastic granted for nothing":   {elastic(line(1, `"item_quantity":2,"response":101,"meter_cost":0,"meter_quantity":0`)), "elastic token", "0"},
		"void":                          {wrap("event.voided", `{"target":{"source":"/s","id":"1"},"reason":"r"}`), "", "0"},
		"account":                       {wrap("account.created", `{"name":"n","kind":"other"}`), "", "0"},
	}
	for name, tt := range tests {
		e := parse(t, tt.in)
		if meter, q := e.Count(); meter != tt.meter || q.String() != tt.quantity {
			t.Errorf("%s counts %s on %q, want %s on %q", name, q, meter, tt.quantity, tt.meter)
		}
	}
}

// |meter_cost × item_quantity − meter_quantity| <= 1e-6 + |meter_cost| × 5e-10, at its very edge.
func TestElasticTolerance(t *testing.T) {
	tests := map[string]bool{
		"3 10 30": true, "3 10 30.000001": true, "3 10 30.000001001": true, "3 10 30.000001002": false, "3 10 29.999998999": true, "3 10 29.999998998": false,
		"0 10 0.000001": true, "0 10 0.000001001": false, "-3 10 -30.000001001": true, "7 -0.166666667 -1.166667": true,
		"1000000000 1 1000000000.500001": true, "1000000000 1 1000000000.500001001": false, "99999999999999999999 1 99999999999999999999": true, "99999999999999999999 0.000000001 0.5": false,
	}
	for in, want := range tests {
		var cost, count, quantity string
		if _, err := fmt.Sscan(in, &cost, &count, &quantity); err != nil {
			t.Fatal(err)
		}
		doc := elastic(line(1, fmt.Sprintf(`"item_quantity":%s,"response":101,"meter_cost":%s,"meter_quantity":%s`, count, cost, quantity)))
		if _, faults := usage.NewParser(usage.Limits{}).Event([]byte(doc)); (len(faults) == 0) != want {
			t.Errorf("%s: %v", in, codes(faults))
		}
	}
}

func TestContentHash(t *testing.T) {
	base := metered(`,"dimensions":{"a":"1","b":"2"},"actor":{"id":"x"}`)
	hash := func(doc string) uint64 {
		e := parse(t, doc)
		return usage.ContentHash(&e)
	}
	same := map[string]string{
		"number for a string":   strings.Replace(base, `"3"`, `3`, 1),
		"3.0":                   strings.Replace(base, `"3"`, `3.0`, 1),
		"3e0":                   strings.Replace(base, `"3"`, `"3e0"`, 1),
		"another offset":        strings.Replace(base, `10:00:00Z`, `11:00:00.000+01:00`, 1),
		"another order":         `{"data":{"actor":{"id":"x"},"dimensions":{"b":"2","a":"1"},"quantity":3,"meter":"tokens"},"time":"2025-03-01T10:00:00Z","subject":"A-1","type":"usage.metered","source":"/gateway","id":"e1","specversion":"1.0"}`,
		"another id and source": strings.NewReplacer(`"e1"`, `"e2"`, `/gateway`, `/g2`).Replace(base),
		"correlation":           strings.Replace(base, `"id"`, `"correlationid":"c","causationid":"d","traceparent":"t","recordedtime":"2025-01-01T00:00:00Z","zone":"z","id"`, 1),
		"escapes":               strings.Replace(base, `tokens`, `tok\u0065ns`, 1),
		"an empty unit":         strings.Replace(base, `"quantity"`, `"unit":"","quantity"`, 1),
		"white space":           strings.ReplaceAll(base, `,`, " ,\n"),
		"version 1 said aloud":  strings.Replace(base, `usage.metered`, `usage.metered.v1`, 1),
	}
	for name, doc := range same {
		if hash(doc) != hash(base) {
			t.Errorf("%s changes the hash", name)
		}
	}
	different := map[string]string{
		"quantity": strings.Replace(base, `"3"`, `"3.000000001"`, 1), "sign": strings.Replace(base, `"3"`, `"-3"`, 1),
		"account": strings.Replace(base, `A-1`, `A-2`, 1), "no account": strings.Replace(base, `"subject":"A-1",`, ``, 1),
		"a nanosecond": strings.Replace(base, `10:00:00Z`, `10:00:00.000000001Z`, 1), "no time": strings.Replace(base, `"time":"2025-03-01T10:00:00Z",`, ``, 1),
		"meter": strings.Replace(base, `tokens`, `token`, 1), "dimension": strings.Replace(base, `"b":"2"`, `"b":"3"`, 1), "dimension's name": strings.Replace(base, `"b":"2"`, `"c":"2"`, 1),
		"shifted text": strings.Replace(base, `"a":"1","b":"2"`, `"a":"1b","2":""`, 1), "actor": strings.Replace(base, `"x"`, `"y"`, 1), "no actor": strings.Replace(base, `,"actor":{"id":"x"}`, ``, 1),
		"unit": strings.Replace(base, `"quantity"`, `"unit":"u","quantity"`, 1), "plan": strings.Replace(base, `"quantity"`, `"plan":"u","quantity"`, 1),
		"item": strings.Replace(base, `"quantity"`, `"item":"u","quantity"`, 1), "region": strings.Replace(base, `"quantity"`, `"region":"u","quantity"`, 1),
		"span": strings.Replace(base, `"quantity"`, `"start":"2025-03-01T00:00:00Z","end":"2025-03-02T00:00:00Z","quantity"`, 1),
	}
	seen := map[uint64]string{hash(base): "base"}
	for name, doc := range different {
		if other, ok := seen[hash(doc)]; ok {
			t.Errorf("%s has the hash of %s", name, other)
		}
		seen[hash(doc)] = name
	}
}

// The hashes are stored for ever. If this test fails, every duplicate of an old event would be taken
// for a conflict: change the code back, never the numbers.
func TestHashesNeverChange(t *testing.T) {
	full := parse(t, typical(7))
	rest := parse(t, metered(`,"actor":{"id":"x"},"asset":{"id":"a","name":"n","type":"USER"},"start":"2025-03-01T00:00:00Z","end":"2025-03-02T00:00:00Z","trial_expiry":"2025-03-10T00:00:00Z"`))
	void := parse(t, wrap("event.voided", `{"target":{"source":"/s","id":"1"},"reason":"r"}`))
	got := fmt.Sprintf("%016x %016x %016x %016x", usage.ContentHash(&full), usage.ContentHash(&rest), usage.ContentHash(&void),
		usage.IdentityHash("default", usage.Identity{Source: "/gateway", ID: "e1"}))
	if want := "cf3e8c2440f64b95 2f670ba7aabcc5ff a0826859641690a0 477f060fa5a10618"; got != want {
		t.Errorf("hashes are %s, want %s", got, want)
	}
}

func TestCut(t *testing.T) {
	tests := map[string]struct{ start, end, trial, quantity, want string }{
		"inside a day":           {"2025-03-01T10:00:00Z", "2025-03-01T11:00:00Z", "", "1.123456789", "2025-03-01T10:00:00Z 1.123456789"},
		"a whole day":            {"2025-03-01T00:00:00Z", "2025-03-02T00:00:00Z", "", "24", "2025-03-01T00:00:00Z 24"},
		"C7 month's end":         {"2025-03-31T23:30:00Z", "2025-04-01T00:30:00Z", "", "1.000001", "2025-03-31T23:30:00Z 0.5, 2025-04-01T00:00:00Z 0.500001"},
		"half-even rounds up":    {"2025-03-31T23:30:00Z", "2025-04-01T00:30:00Z", "", "1.000003", "2025-03-31T23:30:00Z 0.500002, 2025-04-01T00:00:00Z 0.500001"},
		"negative":               {"2025-03-31T23:30:00Z", "2025-04-01T00:30:00Z", "", "-1.000001", "2025-03-31T23:30:00Z -0.5, 2025-04-01T00:00:00Z -0.500001"},
		"thirds":                 {"2025-03-01T12:00:00Z", "2025-03-03T00:00:00Z", "", "1", "2025-03-01T12:00:00Z 0.333333, 2025-03-02T00:00:00Z 0.666667"},
		"at the trial's end":     {"2025-03-10T10:00:00Z", "2025-03-10T12:00:00Z", "2025-03-10T10:30:00Z", "4", "2025-03-10T10:00:00Z 1 trial, 2025-03-10T10:30:00Z 3"},
		"trial ends at midnight": {"2025-03-09T23:00:00Z", "2025-03-10T01:00:00Z", "2025-03-10T00:00:00Z", "2", "2025-03-09T23:00:00Z 1 trial, 2025-03-10T00:00:00Z 1"},
		"trial ended at start":   {"2025-03-10T10:00:00Z", "2025-03-10T12:00:00Z", "2025-03-10T10:00:00Z", "4", "2025-03-10T10:00:00Z 4"},
		"trial ends at end":      {"2025-03-10T10:00:00Z", "2025-03-10T12:00:00Z", "2025-03-10T12:00:00Z", "4", "2025-03-10T10:00:00Z 4 trial"},
		"a nanosecond over":      {"2025-03-01T23:59:59.999999999Z", "2025-03-02T00:00:00.000000001Z", "", "0.000000001", "2025-03-01T23:59:59.999999999Z 0, 2025-03-02T00:00:00Z 0.000000001"},
	}
	for name, tt := range tests {
		m := usage.Metered{Quantity: quantity(t, tt.quantity), Start: instant(t, tt.start), End: instant(t, tt.end)}
		if tt.trial != "" {
			m.TrialExpiry = instant(t, tt.trial)
		}
		var got []string
		for _, p := range m.Cut() {
			s := p.Start.String() + " " + p.Quantity.String()
			if p.Trial {
				s += " trial"
			}
			got = append(got, s)
		}
		if all := strings.Join(got, ", "); all != tt.want {
			t.Errorf("%s: %s\nwant %s", name, all, tt.want)
		}
	}
	if (&usage.Metered{Quantity: usage.Int(1)}).Cut() != nil {
		t.Error("usage without a span was cut")
	}
}

// C5: 31 days deployed, trial until the 10th: nine trial days and 22 others, 744 hours.
func TestCutMonthUnderTrial(t *testing.T) {
	m := usage.Metered{Quantity: usage.Int(744), Start: instant(t, "2025-03-01T00:00:00Z"), End: instant(t, "2025-04-01T00:00:00Z"), TrialExpiry: instant(t, "2025-03-10T00:00:00Z")}
	sums := map[bool]usage.Quantity{}
	for _, p := range m.Cut() {
		sums[p.Trial] = sums[p.Trial].Add(p.Quantity)
	}
	if len(m.Cut()) != 31 || sums[true] != usage.Int(216) || sums[false] != usage.Int(528) {
		t.Errorf("%d pieces, trial %s, rest %s", len(m.Cut()), sums[true], sums[false])
	}
}

func TestCutIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Int64Range(0, 7e18).Draw(t, "start")
		length := rapid.Int64Range(1, 400*86_400*1e9).Draw(t, "length")
		if rapid.Bool().Draw(t, "short") {
			length = length%(3*86_400*1e9) + 1
		}
		m := usage.Metered{Start: usage.At(start), End: usage.At(start + length)}
		text := rapid.StringMatching(`-?[1-9][0-9]{0,19}(\.[0-9]{1,9})?`).Draw(t, "quantity")
		m.Quantity, _ = usage.ParseQuantity([]byte(text))
		if rapid.Bool().Draw(t, "trial") {
			m.TrialExpiry = usage.At(start + rapid.Int64Range(-1e9, length+1e9).Draw(t, "expiry"))
		}
		at, sum := m.Start, usage.Quantity{}
		pieces := m.Cut()
		for i, p := range pieces {
			day := p.Start.Nanos() / 86_400e9
			switch {
			case p.Start != at || !p.Start.Before(p.End):
				t.Fatalf("piece %d is [%s, %s), the last ended at %s", i, p.Start, p.End, at)
			case (p.End.Nanos()-1)/86_400e9 != day:
				t.Fatalf("piece %d [%s, %s) crosses midnight", i, p.Start, p.End)
			case p.Trial != (m.TrialExpiry.Known() && p.Start.Before(m.TrialExpiry)):
				t.Fatalf("piece %d from %s: trial %v, expiry %s", i, p.Start, p.Trial, m.TrialExpiry)
			case p.Trial && m.TrialExpiry.Before(p.End):
				t.Fatalf("piece %d [%s, %s) crosses the trial's end %s", i, p.Start, p.End, m.TrialExpiry)
			}
			at, sum = p.End, sum.Add(p.Quantity)
		}
		if at != m.End || sum != m.Quantity {
			t.Fatalf("pieces end at %s with %s, want %s with %s", at, sum, m.End, m.Quantity)
		}
	})
}

func TestDirectoryTypes(t *testing.T) {
	for _, typ := range usage.Types() {
		hot := strings.HasPrefix(typ, "usage.") || strings.HasPrefix(typ, "message.") || typ == "user.activity" || typ == "elastic.operation" || typ == "event.voided"
		if !usage.KnownType(typ) || usage.Directory(typ) == hot {
			t.Errorf("%s: known %v, directory %v", typ, usage.KnownType(typ), usage.Directory(typ))
		}
	}
	if usage.KnownType("com.example") || usage.Directory("com.example") || len(usage.Types()) < 40 {
		t.Errorf("%d types", len(usage.Types()))
	}
}
