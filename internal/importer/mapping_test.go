package importer_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/countinghouse/countinghouse/internal/importer"
)

const csvHead = "format: csv\nsource: s\n"

func TestMappingFaults(t *testing.T) {
	tests := map[string]struct {
		yaml string
		want []string // every one must be in the error
	}{
		"empty":       {"", []string{"is empty"}},
		"unknown key": {csvHead + "tiem: {}\n", []string{"line 3", "tiem"}},
		"no format":   {"source: s\n", []string{`format: "" is not one of`}},
		"all at once": {
			csvHead + "time: {from: t, layout: '2006-01-02'}\nevents:\n  - {id: x, data: {quantity: '{a'}}\n",
			[]string{"time.zone: must be set", "events[0].id: must contain {line}", "an opening brace is not closed"},
		},
		"zone twice":   {csvHead + "time: {from: t, layout: rfc3339, zone: UTC}\nevents: [{data: {}}]\n", []string{"carries its own offset"}},
		"zone unknown": {csvHead + "time: {from: t, layout: '2006', zone: Mars/Base}\nevents: [{data: {}}]\n", []string{"not UTC or an IANA"}},
		"no events":    {csvHead + "time: {from: t, layout: rfc3339}\n", []string{"at least one event"}},
		"each in csv":  {csvHead + "time: {from: t, layout: rfc3339}\nevents: [{each: a, data: {}}]\n", []string{"only with format ndjson"}},
		"id of an account": {
			csvHead + "time: {from: t, layout: '2006-01-02'}\nevents: [{id: '{a}', type: account.created, subject: '{a}', data: {name: '{a}'}}]\n",
			[]string{"mapping m.yaml: time.zone: must be set"},
		},
		"id without key":                {"format: ndjson\nsource: s\ntime: {from: t, layout: unix}\nevents: [{id: '{line}', each: a, data: {}}]\n", []string{"must contain {key}"}},
		"quantity twice":                {csvHead + "time: {from: t, layout: rfc3339}\nevents: [{counter: {reading: '{a}'}, data: {quantity: 1}}]\n", []string{"comes from the counter"}},
		"bad reset":                     {csvHead + "time: {from: t, layout: rfc3339}\nevents: [{counter: {reading: '{a}', reset: maybe}, data: {}}]\n", []string{"not fault or restart"}},
		"delimiter":                     {csvHead + "csv: {delimiter: '||'}\ntime: {from: t, layout: rfc3339}\nevents: [{data: {}}]\n", []string{"not one character"}},
		"yaml number that JSON has not": {csvHead + "time: {from: t, layout: rfc3339}\nevents: [{data: {a: 0x10}}]\n", []string{"is not JSON"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := importer.ParseMapping("m.yaml", []byte(tt.yaml))
			var bad *importer.MappingError
			if !errors.As(err, &bad) {
				t.Fatalf("error %v, want a MappingError", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

// TestExamples keeps the mapping files of examples/ usable: each parses and maps a line of its kind.
func TestExamples(t *testing.T) {
	const root = "Owner,SHA-256 Fingerprint,Valid From [GMT],Valid To [GMT],PEM Info\n\"Acme, Inc.\",AB01,2011.09.22,2020.09.22,\"'-----BEGIN\nEND\"\n"
	lines := map[string]string{
		"ca-owners.yaml": root, "ca-certificates.yaml": root, "ca-expiries.yaml": root,
		"azure-llm-2023.yaml":    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44",
		"apache-access-log.yaml": `10.0.0.1 - - [17/May/2015:12:05:03 +0200] "GET / HTTP/1.1" 200 - "-" "a \"b\" c"`,
		"nginxplus-counters.yaml": `{"timestamp":1446249499322,"requests":{"total":7},"connections":{"accepted":8},"server_zones":{"a.b":{"requests":1,"received":2,"sent":3}}}` + "\n" +
			`{"timestamp":1446249504422,"requests":{"total":9},"connections":{"accepted":8},"server_zones":{"a.b":{"requests":2,"received":2,"sent":6490717598}}}`,
	}
	want := map[string][]string{
		"azure-llm-2023.yaml": {
			`{"specversion":"1.0","id":"x.csv:2:context","source":"azure-llm-2023","type":"usage.metered","subject":"llm","time":"2023-11-16T18:15:46.68059Z","data":{"meter":"context_tokens","quantity":"374","unit":"token","dimensions":{"timestamp":"2023-11-16 18:15:46.6805900"}}}`,
			`"id":"x.csv:2:generated"`, `"quantity":1,`,
		},
		"apache-access-log.yaml": {
			`"time":"2015-05-17T10:05:03Z"`,
			`{"meter":"bandwidth_bytes","quantity":"0","unit":"byte","consumer":{"type":"address","id":"10.0.0.1"}}`,
		},
		"ca-owners.yaml": {
			`"id":"partner","source":"ca-certificates","type":"account.created","subject":"ccadb","time":"1990-01-01T00:00:00Z"`,
			`"id":"owner:Acme, Inc.","source":"ca-certificates","type":"account.created","subject":"Acme, Inc."`,
			`"subscription_id":"roots:Acme, Inc."`,
		},
		"ca-certificates.yaml": {`"id":"issued:AB01","source":"ca-certificates","type":"certificate.issued","subject":"Acme, Inc.","time":"2011-09-22T00:00:00Z"`},
		"ca-expiries.yaml":     {`"id":"expired:AB01","source":"ca-certificates","type":"certificate.expired","subject":"Acme, Inc.","time":"2020-09-22T00:00:00Z"`},
		"nginxplus-counters.yaml": {
			`"id":"x.csv:1:snapshot"`,
			`"id":"x.csv:2:zone:a.b:requests","source":"nginxplus-counters","type":"usage.metered","subject":"a.b","time":"2015-10-30T23:58:24.422Z","data":{"meter":"zone_requests","unit":"request","dimensions":{"reading":"2"},"quantity":"1"}`,
			`"quantity":"0"`, `"quantity":"6490717595"`, `"quantity":"2"`, `"quantity":"0"`, `"id":"x.csv:2:snapshot"`,
		},
	}
	dir := filepath.Join("..", "..", "examples", "import")
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) != len(lines) {
		t.Fatalf("%d mapping files in %s (%v), want %d: give the new one a line here", len(files), dir, err, len(lines))
	}
	for _, path := range files {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			m, err := importer.ParseMapping(path, text)
			if err != nil {
				t.Fatal(err)
			}
			docs, faults := preview(t, m, lines[name])
			if len(faults) > 0 {
				t.Errorf("faults: %v", faults)
			}
			rest := strings.Join(docs, "\n")
			for _, w := range want[name] {
				_, after, ok := strings.Cut(rest, w)
				if !ok {
					t.Fatalf("no %s in (rest of)\n%s", w, rest)
				}
				rest = after
			}
		})
	}
}

func preview(t *testing.T, m *importer.Mapping, text string) (docs []string, faults []importer.Fault) {
	t.Helper()
	in, err := importer.NewInput("x.csv", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	raw, faults, err := importer.Preview(in, m, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range raw {
		docs = append(docs, string(r))
	}
	return docs, faults
}

func parse(t *testing.T, yaml string) *importer.Mapping {
	t.Helper()
	m, err := importer.ParseMapping("m.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCSV(t *testing.T) {
	m := parse(t, `
format: csv
csv: {delimiter: ";"}
missing: ["", "n/a"]
source: "import/{file}"
subject: "{account name}"
time: {from: when, layout: rfc3339}
events:
  - data: {meter: m, quantity: "{n|0}", note: "{note?}", "{literal}": "{{{note|none}}}", exact: !number "{n|0}"}
`)
	docs, faults := preview(t, m, "\xef\xbb\xbfaccount name;when;n;note\r\n"+
		"acme;2024-01-31T23:59:60.5+01:00;1;x\r\n"+ // second 60 does not exist
		"acme;2024-01-31T23:59:59.123456789+01:00;12345678901234567890.123456789;\"a;\r\nb\"\r\n"+
		"acme;2024-02-01T00:00:00Z;n/a;\r\n"+
		"acme;2024-02-01T00:00:00Z;1\r\n"+ // a column short
		"acme;;1;\r\n")
	want := []string{
		`{"specversion":"1.0","id":"x.csv:3","source":"import/x.csv","type":"usage.metered","subject":"acme","time":"2024-01-31T22:59:59.123456789Z",` +
			`"data":{"meter":"m","quantity":"12345678901234567890.123456789","note":"a;\nb","{literal}":"{a;\nb}","exact":12345678901234567890.123456789}}`,
		`{"specversion":"1.0","id":"x.csv:5","source":"import/x.csv","type":"usage.metered","subject":"acme","time":"2024-02-01T00:00:00Z",` +
			`"data":{"meter":"m","quantity":"0","{literal}":"{none}","exact":0}}`,
	}
	if got := strings.Join(docs, "\n"); got != strings.ReplaceAll(strings.Join(want, "\n"), "a;\nb", `a;\nb`) {
		t.Errorf("events:\n%s", got)
	}
	var at []int
	for _, f := range faults {
		at = append(at, f.Line)
	}
	if len(at) != 3 || at[0] != 2 || at[1] != 6 || at[2] != 7 {
		t.Errorf("faults %v, want lines 2, 6, 7", faults)
	}
}

func TestCSVUnknownColumn(t *testing.T) {
	m := parse(t, csvHead+"time: {from: when, layout: rfc3339}\nevents: [{data: {quantity: '{amount}'}}]\n")
	in, err := importer.NewInput("x", strings.NewReader("when,amont\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = importer.Preview(in, m, "", 1)
	if err == nil || !strings.Contains(err.Error(), `column "amount"; the file has when, amont`) {
		t.Errorf("error %v does not name the column", err)
	}
}

// TestClockChanges: a naive time that a clock change skips is never counted, one that it repeats only
// as the mapping says.
func TestClockChanges(t *testing.T) {
	const head = "format: csv\nsource: s\nevents: [{data: {quantity: 1}}]\ntime: {from: t, layout: '2006-01-02 15:04:05', zone: America/New_York"
	tests := map[string]struct{ ambiguous, in, want string }{
		"plain":          {"", "2024-07-01 12:00:00.25", "2024-07-01T16:00:00.25Z"},
		"skipped":        {", ambiguous: later", "2024-03-10 02:30:00", ""},
		"just before":    {"", "2024-03-10 01:59:59", "2024-03-10T06:59:59Z"},
		"just after":     {"", "2024-03-10 03:00:00", "2024-03-10T07:00:00Z"},
		"twice":          {"", "2024-11-03 01:30:00", ""},
		"twice, earlier": {", ambiguous: earlier", "2024-11-03 01:30:00", "2024-11-03T05:30:00Z"},
		"twice, later":   {", ambiguous: later", "2024-11-03 01:30:00", "2024-11-03T06:30:00Z"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			docs, faults := preview(t, parse(t, head+tt.ambiguous+"}\n"), "t\n"+tt.in+"\n")
			switch {
			case tt.want == "" && (len(docs) != 0 || len(faults) != 1):
				t.Errorf("events %v, faults %v; want one fault", docs, faults)
			case tt.want != "" && (len(docs) != 1 || !strings.Contains(docs[0], `"time":"`+tt.want+`"`)):
				t.Errorf("events %v, faults %v; want %s", docs, faults, tt.want)
			}
		})
	}
}

func TestUnixTimes(t *testing.T) {
	tests := []struct{ layout, in, want string }{
		{"unix", "1446249499", "2015-10-30T23:58:19Z"},
		{"unix", "1446249499.3220000009", "2015-10-30T23:58:19.322Z"},
		{"unix_ms", "1446249499322", "2015-10-30T23:58:19.322Z"},
		{"unix_ms", "1446249499322.5", "2015-10-30T23:58:19.3225Z"},
		{"unix_us", "1", "1970-01-01T00:00:00.000001Z"},
		{"unix_ns", "1446249499322000001", "2015-10-30T23:58:19.322000001Z"},
		{"unix", "1e9", ""},
		{"unix", "-5", ""},
		{"unix", "", ""},
	}
	for _, tt := range tests {
		m := parse(t, "format: ndjson\nsource: s\nevents: [{data: {quantity: 1}}]\ntime: {from: t, layout: "+tt.layout+"}\n")
		docs, faults := preview(t, m, `{"t":"`+tt.in+`"}`)
		got := ""
		if len(docs) == 1 {
			_, got, _ = strings.Cut(docs[0], `"time":"`)
			got, _, _ = strings.Cut(got, `"`)
		}
		if got != tt.want || (tt.want == "" && len(faults) != 1) {
			t.Errorf("%s %q: %q (%v), want %q", tt.layout, tt.in, got, faults, tt.want)
		}
	}
}

// TestCounters: a record that is refused as a whole leaves its counters where they were, so nothing
// between two readings is lost.
func TestCounters(t *testing.T) {
	const head = `
format: ndjson
source: s
time: {from: t, layout: unix}
events:
  - {id: "{line}:a", counter: {reading: "{a?}"}, data: {meter: a}}
  - {id: "{line}:b:{key}", each: "b", counter: {reading: "{value}"%s}, data: {meter: b}}
`
	lines := strings.Join([]string{
		`{"t":1,"a":10,"b":{"x":5}}`,
		`{"t":2,"a":12,"b":{"x":4}}`, // b went back: the line is a fault, a's two stay to be counted
		`{"t":3,"a":13,"b":{"x":5.5,"y":1}}`,
		`{"t":4,"a":null,"b":{"y":1}}`,
		`{"t":5,"a":20}`,
	}, "\n")
	tests := map[string]struct {
		reset  string
		faults int
		want   []string
	}{
		"fault":   {"", 1, []string{`3:a"#"3"`, `3:b:x"#"0.5"`, `4:b:y"#"0"`, `5:a"#"7"`}},
		"restart": {", reset: restart", 0, []string{`2:a"#"2"`, `2:b:x"#"4"`, `3:a"#"1"`, `3:b:x"#"1.5"`, `4:b:y"#"0"`, `5:a"#"7"`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := parse(t, strings.Replace(head, "%s", tt.reset, 1))
			docs, faults := preview(t, m, lines)
			if len(docs) != len(tt.want) || len(faults) != tt.faults {
				t.Fatalf("%d events, want %d; faults %v\n%s", len(docs), len(tt.want), faults, strings.Join(docs, "\n"))
			}
			for i, w := range tt.want {
				id, quantity, _ := strings.Cut(w, "#")
				if !strings.Contains(docs[i], `"id":"`+id) || !strings.Contains(docs[i], `"quantity":`+quantity) {
					t.Errorf("event %d is %s, want id %s, quantity %s", i, docs[i], id, quantity)
				}
			}
		})
	}
}

func TestCombinedFaults(t *testing.T) {
	m := parse(t, "format: combined\nsource: s\nevents: [{data: {quantity: '{bytes|0}'}}]\n")
	for _, line := range []string{
		`1.2.3.4 - - 17/May/2015:10:05:03 +0000 "GET /" 200 1 "-" "-"`,
		`1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / 200 1`,
		`1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /"x 200 1 "-" "-"`,
		`1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /" 200`,
		`1.2.3.4 - - [31/Feb/2015:10:05:03 +0000] "GET /" 200 1 "-" "-"`,
		`1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /" 200 1 "-" "-" more`,
	} {
		if docs, faults := preview(t, m, line); len(docs) != 0 || len(faults) != 1 {
			t.Errorf("%s: events %v, faults %v; want one fault", line, docs, faults)
		}
	}
	cutOff := `1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /" 200 17 "-" "Mozilla/5.0 (http://www.`
	if docs, faults := preview(t, m, cutOff); len(docs) != 1 || !strings.Contains(docs[0], `"quantity":"17"`) {
		t.Errorf("line cut off in the agent: events %v, faults %v", docs, faults)
	}
	common := `1.2.3.4 - bob [17/May/2015:10:05:03 +0000] "GET /" 200 17`
	if docs, faults := preview(t, m, common); len(docs) != 1 || !strings.Contains(docs[0], `"quantity":"17"`) {
		t.Errorf("common log format: events %v, faults %v", docs, faults)
	}
}

// TestCompressed: a compressed copy gives the same events with the same ids, whatever its name says.
func TestCompressed(t *testing.T) {
	const text = `{"specversion":"1.0","id":"1"}`
	var gz, zs bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	z, err := zstd.NewWriter(&zs)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	for name, content := range map[string][]byte{"a.ndjson": []byte(text), "a.ndjson.gz": gz.Bytes(), "a.ndjson.zst": zs.Bytes()} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		in, err := importer.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if in.Name != "a.ndjson" {
			t.Errorf("name %q of %s, want a.ndjson", in.Name, name)
		}
		docs, _, err := importer.Preview(in, importer.Verbatim(), "", 10)
		if err != nil || len(docs) != 1 || string(docs[0]) != text {
			t.Errorf("%s: %s, %v", name, docs, err)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}
}
