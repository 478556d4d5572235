package usage_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// wrap makes an event of data with every required attribute.
func wrap(typ, data string) string {
	return `{"specversion":"1.0","id":"e1","source":"/gateway","type":"` + typ + `","subject":"A-1","time":"2025-03-01T10:00:00Z","data":` + data + `}`
}

func metered(rest string) string {
	return wrap("usage.metered", `{"meter":"tokens","quantity":"3"`+rest+`}`)
}

func attrs(rest string) string {
	return `{"specversion":"1.0","id":"e1","source":"/gateway","type":"usage.metered","data":{"meter":"tokens","quantity":1}` + rest + `}`
}

func codes(faults []usage.Fault) string {
	var out []string
	for _, f := range faults {
		out = append(out, f.Pointer+" "+f.Code)
	}
	return strings.Join(out, ", ")
}

func TestRefusals(t *testing.T) {
	long := strings.Repeat("x", 257)
	many := &strings.Builder{}
	for i := range 65 {
		fmt.Fprintf(many, `,"k%d":"v"`, i)
	}
	tests := map[string]struct{ in, want string }{
		"empty text":                      {``, " bad-json"},
		"cut off":                         {`{"id":"e1"`, " bad-json"},
		"two values":                      {metered("") + `{}`, " bad-json"},
		"NaN is not JSON":                 {metered(`,"unit":NaN`), " bad-json"},
		"single quotes":                   {`{'id':1}`, " bad-json"},
		"byte order mark":                 {"\ufeff" + metered(""), " bad-json"},
		"a string":                        {`"event"`, " not-object"},
		"an array where one event is due": {`[]`, " not-object"},
		"null":                            {`null`, " not-object"},
		"duplicate attribute":             {attrs(`,"id":"e2"`), "/id duplicate-key"},
		"duplicate by escape":             {attrs(`,"i\u0064":"e2"`), "/id duplicate-key"},
		"duplicate member of data":        {metered(`,"quantity":"3"`), "/data/quantity duplicate-key"},
		"duplicate dimension":             {metered(`,"dimensions":{"a":"1","a":"2"}`), "/data/dimensions/a duplicate-key"},
		"bytes that are not UTF-8":        {metered(",\"unit\":\"\xff\""), "/data/unit bad-utf8"},
		"half of a surrogate pair":        {metered(`,"unit":"\ud800"`), "/data/unit bad-utf8"},
		"deep nesting":                    {wrap("elastic.operation", strings.Repeat(`[`, 40)+strings.Repeat(`]`, 40)), "/data" + strings.Repeat("/0", 30) + " too-deep"},
		"70 KB":                           {metered(`,"unit":"` + strings.Repeat("x", 70_000) + `"`), " event-too-large"},

		"CloudEvents 0.3":       {strings.Replace(metered(""), `"1.0"`, `"0.3"`, 1), "/specversion bad-attribute"},
		"specversion as number": {strings.Replace(metered(""), `"1.0"`, `1.0`, 1), "/specversion bad-attribute"},
		"nothing but data": {`{"data":{}}`,
			"/specversion missing-attribute, /id missing-attribute, /source missing-attribute, /type missing-attribute"},
		"null for a required attribute":    {strings.Replace(metered(""), `"e1"`, `null`, 1), "/id missing-attribute"},
		"empty id":                         {strings.Replace(metered(""), `"e1"`, `""`, 1), "/id bad-attribute"},
		"id with a line break":             {strings.Replace(metered(""), `"e1"`, `"e\n1"`, 1), "/id bad-attribute"},
		"id with a NUL":                    {strings.Replace(metered(""), `"e1"`, `"e\u0000"`, 1), "/id bad-attribute"},
		"source with a space":              {strings.Replace(metered(""), `/gateway`, `my gateway`, 1), "/source bad-attribute"},
		"source with a bad percent":        {strings.Replace(metered(""), `/gateway`, `/a%2`, 1), "/source bad-attribute"},
		"host:port is no URI reference":    {strings.Replace(metered(""), `/gateway`, `10.0.0.1:80`, 1), "/source bad-attribute"},
		"empty subject":                    {strings.Replace(metered(""), `"A-1"`, `""`, 1), "/subject bad-attribute"},
		"extension in capitals":            {attrs(`,"MyExt":"x"`), "/MyExt bad-attribute"},
		"extension with a dot":             {attrs(`,"my.ext":"x"`), "/my.ext bad-attribute"},
		"extension with a slash":           {attrs(`,"a/b~":"x"`), "/a~1b~0 bad-attribute"},
		"extension with a fraction":        {attrs(`,"ext":1.5`), "/ext bad-attribute"},
		"extension beyond 32 bits":         {attrs(`,"ext":2147483648`), "/ext bad-attribute"},
		"extension that is an object":      {attrs(`,"ext":{}`), "/ext bad-attribute"},
		"empty correlationid":              {attrs(`,"correlationid":""`), "/correlationid bad-attribute"},
		"content type without a slash":     {attrs(`,"datacontenttype":"xyz"`), "/datacontenttype bad-attribute"},
		"content type that is not JSON":    {attrs(`,"datacontenttype":"text/plain"`), "/datacontenttype bad-attribute"},
		"relative dataschema":              {attrs(`,"dataschema":"schema"`), "/dataschema bad-attribute"},
		"data and data_base64":             {attrs(`,"data_base64":"e30="`), "/data_base64 bad-attribute"},
		"data_base64 that is not base64":   {strings.Replace(attrs(""), `"data":{"meter":"tokens","quantity":1}`, `"data_base64":"%"`, 1), "/data_base64 bad-attribute"},
		"data_base64 that is not JSON":     {strings.Replace(attrs(""), `"data":{"meter":"tokens","quantity":1}`, `"data_base64":"SGk="`, 1), "/data bad-json"},
		"unknown type":                     {wrap("usage.metred", `{}`), "/type unknown-type"},
		"version 2 is not known":           {wrap("usage.metered.v2", `{}`), "/type unknown-type"},
		"time without offset":              {attrs(`,"time":"2025-03-01T10:00:00"`), "/time naive-time"},
		"time to the minute":               {attrs(`,"time":"2025-03-01T10:00Z"`), "/time bad-time"},
		"leap second":                      {attrs(`,"time":"2016-12-31T23:59:60Z"`), "/time bad-time"},
		"29 February of a common year":     {attrs(`,"time":"2025-02-29T00:00:00Z"`), "/time bad-time"},
		"year 1":                           {attrs(`,"time":"0001-01-01T00:00:00Z"`), "/time time-window"},
		"year 9999":                        {attrs(`,"time":"9999-12-31T23:59:59Z"`), "/time time-window"},
		"time as a number":                 {attrs(`,"time":1740823200`), "/time bad-time"},
		"finer than a nanosecond":          {attrs(`,"time":"2025-03-01T10:00:00.0000000001Z"`), "/time bad-time"},
		"recordedtime without offset":      {attrs(`,"recordedtime":"2025-03-01T10:00:00"`), "/recordedtime naive-time"},
		"every attribute fault is listed":  {`{"specversion":"2","id":"","source":"a b","type":"x.y","time":"lunchtime"}`, "/specversion bad-attribute, /id bad-attribute, /source bad-attribute, /time bad-time, /type unknown-type"},
		"an account event without subject": {`{"specversion":"1.0","id":"e1","source":"/crm","type":"account.deleted"}`, "/subject missing-attribute"},

		"no data":                         {`{"specversion":"1.0","id":"e1","source":"/g","type":"usage.metered"}`, "/data/meter missing-field, /data/quantity missing-field"},
		"data is a list":                  {wrap("usage.metered", `[]`), "/data bad-field"},
		"unknown field":                   {metered(`,"quanity":1`), "/data/quanity unknown-field"},
		"unknown field of an object":      {metered(`,"asset":{"id":"a","size":1}`), "/data/asset/size unknown-field"},
		"null for a field":                {metered(`,"unit":null`), "/data/unit bad-field"},
		"empty meter":                     {wrap("usage.metered", `{"meter":"","quantity":1}`), "/data/meter bad-field"},
		"quantity 1e400":                  {wrap("usage.metered", `{"meter":"t","quantity":1e400}`), "/data/quantity bad-quantity"},
		"quantity 1e20":                   {wrap("usage.metered", `{"meter":"t","quantity":1e20}`), "/data/quantity bad-quantity"},
		"quantity with ten decimals":      {wrap("usage.metered", `{"meter":"t","quantity":0.0000000001}`), "/data/quantity bad-quantity"},
		"quantity with a plus":            {wrap("usage.metered", `{"meter":"t","quantity":"+1"}`), "/data/quantity bad-quantity"},
		"quantity with a comma":           {wrap("usage.metered", `{"meter":"t","quantity":"1,5"}`), "/data/quantity bad-quantity"},
		"quantity in hexadecimal":         {wrap("usage.metered", `{"meter":"t","quantity":"0x10"}`), "/data/quantity bad-quantity"},
		"quantity true":                   {wrap("usage.metered", `{"meter":"t","quantity":true}`), "/data/quantity bad-quantity"},
		"quantity empty":                  {wrap("usage.metered", `{"meter":"t","quantity":""}`), "/data/quantity bad-quantity"},
		"asset without id":                {metered(`,"asset":{"name":"Joe"}`), "/data/asset/id missing-field"},
		"start without end":               {metered(`,"start":"2025-03-01T00:00:00Z"`), "/data/end bad-span"},
		"end at start":                    {metered(`,"start":"2025-03-01T00:00:00Z","end":"2025-03-01T01:00:00+01:00"`), "/data/end bad-span"},
		"401 days":                        {metered(`,"start":"2025-01-01T00:00:00Z","end":"2026-02-06T00:00:00Z"`), "/data/end span-too-long"},
		"naive start":                     {metered(`,"start":"2025-03-01T00:00:00","end":"2025-03-02T00:00:00Z"`), "/data/start naive-time"},
		"65 dimensions":                   {metered(`,"dimensions":{` + many.String()[1:] + `}`), "/data/dimensions too-many-dimensions"},
		"a dimension of 257 bytes":        {metered(`,"dimensions":{"k":"` + long + `"}`), "/data/dimensions/k dimension-too-long"},
		"a dimension without name":        {metered(`,"dimensions":{"":"v"}`), "/data/dimensions/ dimension-too-long"},
		"a dimension that is a number":    {metered(`,"dimensions":{"k":1}`), "/data/dimensions/k bad-field"},
		"source_seq below zero":           {metered(`,"source_seq":-1`), "/data/source_seq bad-field"},
		"source_seq as text":              {metered(`,"source_seq":"1"`), "/data/source_seq bad-field"},
		"C11 region US":                   {metered(`,"asset":{"id":"a","type":"USER"},"region":"US"`), "/data/region bad-field"},
		"C11 asset type ROUTER":           {metered(`,"asset":{"id":"a","type":"ROUTER"}`), "/data/asset/type bad-field"},
		"C11 platform on a USER record":   {metered(`,"asset":{"id":"a","type":"USER"},"platform":"azure"`), "/data/platform bad-field"},
		"C11 platform aws":                {metered(`,"asset":{"id":"a","type":"GATEWAY"},"platform":"aws"`), "/data/platform bad-field"},
		"C11 negative quantity":           {strings.Replace(metered(`,"asset":{"id":"a","type":"USER"}`), `"3"`, `"-3"`, 1), "/data/quantity negative-quantity"},
		"activity with result maybe":      {wrap("user.activity", `{"user_id":"u","kind":"login","result":"maybe"}`), "/data/result bad-field"},
		"message by fax":                  {wrap("message.charged", `{"message_id":"m","user_id":"u","channel":"fax","credits":1}`), "/data/channel bad-field"},
		"void of itself":                  {wrap("event.voided", `{"target":{"source":"/gateway","id":"e1"},"reason":"oops"}`), "/data/target void-of-void"},
		"void without target":             {wrap("event.voided", `{"reason":"oops"}`), "/data/target missing-field"},
		"elastic without lines":           {elastic(``), "/data/lines bad-field"},
		"elastic: 3 × 10 is not 31":       {elastic(line(1, `"item_quantity":10,"response":101,"meter_cost":3,"meter_quantity":31`)), "/data/lines/0/meter_quantity bad-arithmetic"},
		"elastic: a denied line charges":  {elastic(line(1, `"item_quantity":10,"response":"102","meter_cost":3,"meter_quantity":30`)), "/data/lines/0/meter_quantity bad-arithmetic"},
		"elastic: granted without a cost": {elastic(line(1, `"item_quantity":1,"response":101,"meter_quantity":3`)), "/data/lines/0/meter_cost missing-field"},
		"elastic: response granted":       {elastic(line(1, `"item_quantity":1,"response":"granted","meter_quantity":3`)), "/data/lines/0/response bad-field"},
		"elastic: line twice":             {elastic(line(1, okLine), line(1, okLine)), "/data/lines/1/line_no bad-field"},
		"elastic: meta_data is a list":    {elastic(line(1, okLine+`,"meta_data":[]`)), "/data/lines/0/meta_data bad-field"},
		"scale 10":                        {wrap("meter.defined", `{"meter":"t","unit":"1","aggregation":"sum","scale":10,"kind":"usage"}`), "/data/scale bad-field"},
		"tiers out of order":              {wrap("price.set", `{"meter":"t","region":"*","currency":"EUR","effective_from":"2025-01-01T00:00:00Z","tiers":[{"from":100,"unit_price":1},{"from":0,"unit_price":2}]}`), "/data/tiers/1/from bad-field"},
	}
	p := usage.NewParser(usage.Limits{})
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e, faults := p.Event([]byte(tt.in))
			got := codes(faults)
			if got != tt.want {
				t.Errorf("Event(%.300s)\n got %s\nwant %s\n%+v", tt.in, got, tt.want, e)
			}
			known := map[string]bool{}
			for _, c := range usage.Codes() {
				known[c.Name] = true
			}
			for _, f := range faults {
				if !known[f.Code] || f.Detail == "" {
					t.Errorf("fault %+v: code unknown or no detail", f)
				}
			}
		})
	}
}

const okLine = `"item_quantity":10,"response":101,"series":"S","version":"1","meter_cost":3,"meter_quantity":30`

func line(n int, rest string) string {
	if !strings.Contains(rest, `"series"`) {
		rest += `,"series":"S","version":"1"`
	}
	return fmt.Sprintf(`{"line_no":%d,"item":"PhotoPrint",%s}`, n, rest)
}

func elastic(lines ...string) string {
	return wrap("elastic.operation", `{"operation":"access_request","instance_id":"I1","consumer":{"type":"user","value":"joe"},"lines":[`+strings.Join(lines, ",")+`]}`)
}

func TestAccepted(t *testing.T) {
	full := usage.Event{Source: "/gateway", ID: "e1", Type: usage.TypeMetered, Subject: "A-1", Time: instant(t, "2025-03-01T10:00:00Z")}
	with := func(change func(e *usage.Event)) usage.Event {
		e := full
		e.Metered = &usage.Metered{Meter: "tokens", Quantity: usage.Int(3)}
		change(&e)
		return e
	}
	tests := map[string]struct {
		in   string
		want usage.Event
	}{
		"plain": {metered(""), with(func(*usage.Event) {})},
		"everything": {
			metered(`,"unit":"1","asset":{"id":"joe@email.com","name":"Joe","type":"GATEWAY"},"start":"2025-03-01T00:00:00+01:00","end":"2025-03-01T00:00:00.5Z",` +
				`"region":"EU","platform":"mcp","trial_expiry":"2025-03-10T00:00:00Z","consumer":{"type":"user","id":"joe"},"item":"I","item_version":"2","plan":"Pro",` +
				`"dimensions":{"z":"1","a":"\u00e9"},"source_seq":7.0,"actor":{"name":"System","id":"s"}`),
			with(func(e *usage.Event) {
				*e.Metered = usage.Metered{
					Meter: "tokens", Quantity: usage.Int(3), Unit: "1", AssetID: "joe@email.com", AssetName: "Joe", AssetType: "GATEWAY",
					Start: instant(t, "2025-02-28T23:00:00Z"), End: instant(t, "2025-03-01T00:00:00.5Z"), Region: "EU", Platform: "mcp",
					TrialExpiry: instant(t, "2025-03-10T00:00:00Z"), ConsumerType: "user", ConsumerID: "joe", Item: "I", ItemVersion: "2", Plan: "Pro",
					Dimensions: []usage.Dimension{{Key: "a", Value: "é"}, {Key: "z", Value: "1"}},
				}
				e.Data = `{"actor":{"id":"s","name":"System"},"source_seq":7}`
			}),
		},
		"an empty optional text is absent":     {metered(`,"unit":"","region":"","asset":{"id":"a","type":""}`), with(func(e *usage.Event) { e.Metered.AssetID = "a" })},
		"version 1 said aloud":                 {strings.Replace(metered(""), "usage.metered", "usage.metered.v1", 1), with(func(*usage.Event) {})},
		"data before type":                     {`{"data":{"quantity":3e0,"meter":"tokens"},"type":"usage.metered","id":"e1","source":"/gateway","specversion":"1.0","subject":"A-1","time":"2025-03-01T11:00:00+01:00"}`, with(func(*usage.Event) {})},
		"nulls are absent":                     {strings.Replace(metered(""), `"id"`, `"dataschema":null,"datacontenttype":null,"correlationid":null,"ext":null,"data_base64":null,"id"`, 1), with(func(*usage.Event) {})},
		"JSON content type":                    {strings.Replace(metered(""), `"id"`, `"datacontenttype":"application/json; charset=UTF-8","id"`, 1), with(func(*usage.Event) {})},
		"data_base64":                          {`{"specversion":"1.0","id":"e1","source":"/gateway","type":"usage.metered","subject":"A-1","time":"2025-03-01T10:00:00Z","data_base64":"eyJtZXRlciI6InRva2VucyIsInF1YW50aXR5IjozfQ=="}`, with(func(*usage.Event) {})},
		"a region of a product without assets": {metered(`,"region":"us-east-1"`), with(func(e *usage.Event) { e.Metered.Region = "us-east-1" })},
		"negative without asset type":          {strings.Replace(metered(`,"asset":{"id":"a"}`), `"3"`, `-0.5`, 1), with(func(e *usage.Event) { e.Metered.AssetID = "a"; e.Metered.Quantity = quantity(t, "-0.5") })},
		"400 days": {metered(`,"start":"2025-01-01T00:00:00Z","end":"2026-02-05T00:00:00Z"`), with(func(e *usage.Event) {
			e.Metered.Start = instant(t, "2025-01-01T00:00:00Z")
			e.Metered.End = instant(t, "2026-02-05T00:00:00Z")
		})},
		"attributes": {
			strings.Replace(metered(""), `"id"`, `"correlationid":"c","causationid":"k","traceparent":"00-x","recordedtime":"2025-03-02T00:00:00Z","zone":"b","hot":true,"count":-7.0,"dataschema":"urn:x","datacontenttype":"application/vnd.x+json","id"`, 1),
			with(func(e *usage.Event) {
				e.CorrelationID, e.CausationID, e.TraceParent, e.RecordedTime = "c", "k", "00-x", instant(t, "2025-03-02T00:00:00Z")
				e.Extensions = `{"count":-7,"datacontenttype":"application/vnd.x+json","dataschema":"urn:x","hot":true,"zone":"b"}`
			}),
		},
		"void": {wrap("event.voided", `{"reason":"typo","target":{"id":"x","source":"/s"}}`), func() usage.Event {
			e := full
			e.Type, e.Target, e.Data = usage.TypeVoided, usage.Identity{Source: "/s", ID: "x"}, `{"reason":"typo","target":{"id":"x","source":"/s"}}`
			return e
		}()},
		"elastic, D1, D14 and denied": {
			elastic(line(1, okLine+`,"meta_data":{"b":1.50,"a":[1e400]}`), line(2, `"item_quantity":-0.166666667,"response":"101","meter_cost":"7","meter_quantity":-1.166667`), line(3, `"item_quantity":1,"response":201,"meter_quantity":0`)),
			func() usage.Event {
				e := full
				e.Type, e.Credits = usage.TypeElastic, quantity(t, "28.833333")
				e.Data = `{"consumer":{"type":"user","value":"joe"},"instance_id":"I1","lines":[` +
					`{"item":"PhotoPrint","item_quantity":"10","line_no":1,"meta_data":{"a":[1e400],"b":1.5},"meter_cost":"3","meter_quantity":"30","response":"101","series":"S","version":"1"},` +
					`{"item":"PhotoPrint","item_quantity":"-0.166666667","line_no":2,"meter_cost":"7","meter_quantity":"-1.166667","response":"101","series":"S","version":"1"},` +
					`{"item":"PhotoPrint","item_quantity":"1","line_no":3,"meter_quantity":"0","response":"201","series":"S","version":"1"}],"operation":"access_request"}`
				return e
			}(),
		},
		"account.deleted without data": {`{"specversion":"1.0","id":"e1","source":"/gateway","type":"account.deleted","subject":"A-1","time":"2025-03-01T10:00:00Z"}`, func() usage.Event {
			e := full
			e.Type = "account.deleted"
			return e
		}()},
	}
	p := usage.NewParser(usage.Limits{})
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, faults := p.Event([]byte(tt.in))
			if len(faults) > 0 {
				t.Fatalf("Event(%s) refused: %v", tt.in, codes(faults))
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("Event(%s)\n got %+v %+v\nwant %+v %+v", tt.in, got, got.Metered, tt.want, tt.want.Metered)
			}
			again, faults := p.Event(usage.AppendJSON(nil, &got))
			if len(faults) > 0 || !reflect.DeepEqual(again, got) {
				t.Errorf("AppendJSON(%s) = %s: %v", tt.in, usage.AppendJSON(nil, &got), codes(faults))
			}
		})
	}
}

// A refused event still says who it is, so that a dead letter can be found by its identity.
func TestRefusedEventKeepsIdentity(t *testing.T) {
	p := usage.NewParser(usage.Limits{})
	for _, in := range []string{metered(`,"x":1`), metered(`,"unit":"\ud800"`), metered(`,"unit":"a","unit":"a"`), wrap("no.such", `{}`), metered(`,"unit":"` + strings.Repeat("x", 70_000) + `"`)} {
		e, faults := p.Event([]byte(in))
		if len(faults) == 0 || e.ID != "e1" || e.Source != "/gateway" {
			t.Errorf("Event(%.200s) = %q %q, %v", in, e.Source, e.ID, codes(faults))
		}
	}
}

func TestExtraTypes(t *testing.T) {
	p := usage.NewParser(usage.Limits{ExtraTypes: []string{"com.example"}})
	tests := map[string]struct{ rest, data, extensions string }{
		"no data":                    {``, ``, ``},
		"null":                       {`,"data":null`, ``, ``},
		"object":                     {`,"data":{"b":1.0,"a":null}`, `{"a":null,"b":1}`, ``},
		"empty object":               {`,"data":{}`, `{}`, ``},
		"text":                       {`,"datacontenttype":"text/plain","data":"Hi"`, `"Hi"`, `{"datacontenttype":"text/plain"}`},
		"the same text as bytes":     {`,"datacontenttype":"text/plain","data_base64":"SGk="`, `"Hi"`, `{"datacontenttype":"text/plain"}`},
		"JSON as bytes":              {`,"datacontenttype":"application/json","data_base64":"eyJhIjoxLjB9"`, `{"a":1}`, ``},
		"bytes":                      {`,"datacontenttype":"image/png","data_base64":"/+8="`, `"/+8="`, `{"data_base64":true,"datacontenttype":"image/png"}`},
		"bytes without a type":       {`,"data_base64":"SGk="`, `"SGk="`, `{"data_base64":true}`},
		"an extension looking alike": {`,"note":"\"data_base64\":true","data":1`, `1`, `{"note":"\"data_base64\":true"}`},
	}
	hashes := map[string]uint64{}
	for name, tt := range tests {
		in := `{"specversion":"1.0","id":"1","source":"/s","type":"com.example"` + tt.rest + `}`
		e, faults := p.Event([]byte(in))
		if len(faults) > 0 || e.Data != tt.data || e.Extensions != tt.extensions {
			t.Errorf("%s: data %s extensions %s, %v", name, e.Data, e.Extensions, codes(faults))
		}
		if meter, _ := e.Count(); meter != "" {
			t.Errorf("%s counts on %q", name, meter)
		}
		again, faults := p.Event(usage.AppendJSON(nil, &e))
		if len(faults) > 0 || !reflect.DeepEqual(e, again) {
			t.Errorf("%s: AppendJSON = %s", name, usage.AppendJSON(nil, &e))
		}
		hashes[name] = usage.ContentHash(&e)
	}
	if hashes["text"] != hashes["the same text as bytes"] || hashes["no data"] != hashes["null"] || hashes["no data"] == hashes["empty object"] {
		t.Error("hashes of the same or different data are wrong")
	}
	if _, faults := p.Event([]byte(`{"specversion":"1.0","id":"1","source":"/s","type":"com.example","data":1e10000}`)); codes(faults) != "/data bad-field" {
		t.Errorf("1e10000: %v", codes(faults))
	}
}

func TestBinary(t *testing.T) {
	p := usage.NewParser(usage.Limits{})
	head := map[string]string{"specversion": "1.0", "id": "e1", "source": "/gateway", "type": "usage.metered", "subject": "A-1", "time": "2025-03-01T10:00:00Z", "zone": "b"}
	got, faults := p.Binary(head, "application/json", []byte(`{"meter":"tokens","quantity":3}`))
	want, _ := p.Event([]byte(strings.Replace(metered(""), `"id"`, `"zone":"b","id"`, 1)))
	if len(faults) > 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("Binary = %+v, %v", got, codes(faults))
	}
	for name, tt := range map[string]struct{ contentType, body, want string }{
		"not JSON":         {"text/plain", `{"meter":"tokens","quantity":3}`, "/datacontenttype bad-attribute"},
		"broken":           {"application/json", `{"meter"`, "/data bad-json"},
		"duplicate member": {"", `{"meter":"a","meter":"b"}`, "/data/meter duplicate-key"},
		"no body":          {"", ``, "/data/meter missing-field, /data/quantity missing-field"},
		"null body":        {"", ` null `, "/data/meter missing-field, /data/quantity missing-field"},
		"too large":        {"", `"` + strings.Repeat("x", 70_000) + `"`, " event-too-large"},
	} {
		if _, faults := p.Binary(head, tt.contentType, []byte(tt.body)); codes(faults) != tt.want {
			t.Errorf("%s: %v, want %s", name, codes(faults), tt.want)
		}
	}
}

func TestBatch(t *testing.T) {
	good, bad := metered(""), metered(`,"x":1`)
	tests := map[string]struct {
		in     string
		want   string // per event: number of faults
		syntax bool
	}{
		"empty":                    {in: ` [ ] `},
		"one":                      {in: `[` + good + `]`, want: "0"},
		"single object":            {in: " " + good + "\n", want: "0"},
		"single bad object":        {in: bad, want: "1"},
		"good neighbours":          {in: "[" + good + " ,\n" + bad + "," + good + "]", want: "010"},
		"a string among events":    {in: `["x",` + good + `]`, want: "10"},
		"a duplicate key in one":   {in: `[` + metered(`,"unit":"a","unit":"b"`) + `,` + good + `]`, want: "10"},
		"bad UTF-8 in one":         {in: "[" + metered(",\"unit\":\"\xff\"") + "," + good + "]", want: "10"},
		"70 KB in one":             {in: `[` + metered(`,"unit":"`+strings.Repeat("x", 70_000)+`"`) + `,` + good + `]`, want: "10"},
		"too deep in one":          {in: `[` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `,` + good + `]`, want: "10"},
		"nothing":                  {in: ``, syntax: true},
		"spaces":                   {in: "  ", syntax: true},
		"not closed":               {in: `[` + good, syntax: true, want: "0"},
		"comma at the end":         {in: `[` + good + `,]`, syntax: true, want: "0"},
		"comma at the start":       {in: `[,` + good + `]`, syntax: true},
		"no comma":                 {in: `[` + good + good + `]`, syntax: true, want: "0"},
		"text after the array":     {in: `[]x`, syntax: true},
		"text after the object":    {in: good + `x`, syntax: true},
		"broken in the middle":     {in: `[` + good + `,{"a":tru},` + good + `]`, syntax: true, want: "0"},
		"not JSON at all":          {in: `hello`, syntax: true},
		"nested deeper than JSON?": {in: strings.Repeat("[", 1_000_000), syntax: true},
	}
	p := usage.NewParser(usage.Limits{})
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := ""
			err := p.Batch([]byte(tt.in), func(i int, raw []byte, e usage.Event, faults []usage.Fault) error {
				if i != len(got) {
					t.Errorf("event %d came as number %d", i, len(got))
				}
				for _, f := range faults {
					if f.Index != i {
						t.Errorf("fault of event %d has index %d", i, f.Index)
					}
				}
				if single, _ := p.Event(bytes.Clone(raw)); !reflect.DeepEqual(single, e) {
					t.Errorf("event %d read alone: %+v, in a batch: %+v", i, single, e)
				}
				got += fmt.Sprint(len(faults))
				return nil
			})
			if errors.Is(err, usage.ErrSyntax) != tt.syntax || !tt.syntax && err != nil || got != tt.want {
				t.Errorf("Batch(%.200s) handed over %q, %v; want %q, syntax error %v", tt.in, got, err, tt.want, tt.syntax)
			}
		})
	}
	stop := errors.New("stop")
	if err := p.Batch([]byte(`[`+good+`,`+good+`]`), func(int, []byte, usage.Event, []usage.Fault) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error of each came back as %v", err)
	}
}

// What a parser returned must not change when it, or the caller's buffer, is used again.
func TestParserKeepsNothing(t *testing.T) {
	p := usage.NewParser(usage.Limits{})
	doc := []byte(metered(`,"dimensions":{"a":"1"},"unit":"x\u0041"`))
	e, _ := p.Event(doc)
	before := fmt.Sprintf("%+v %+v", e, *e.Metered)
	copy(doc, bytes.Repeat([]byte("#"), len(doc)))
	p.Event([]byte(metered(`,"dimensions":{"b":"2"}`)))
	if after := fmt.Sprintf("%+v %+v", e, *e.Metered); after != before {
		t.Errorf("event changed from %s to %s", before, after)
	}
}

func instant(t testing.TB, s string) usage.Instant {
	t.Helper()
	i, err := usage.ParseInstant(s)
	if err != nil {
		t.Fatalf("ParseInstant(%s): %v", s, err)
	}
	return i
}

func quantity(t testing.TB, s string) usage.Quantity {
	t.Helper()
	q, err := usage.ParseQuantity([]byte(s))
	if err != nil {
		t.Fatalf("ParseQuantity(%s): %v", s, err)
	}
	return q
}
