package usage_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	json "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// Every invalid document of CloudEvents 1.0 is refused, every valid one is taken or refused only because
// its type is unknown. The cases here are our own, one for each of the public suite's, so
// that the rule is tested wherever the suite's files are not at hand.
func TestCloudEventsRules(t *testing.T) {
	const base = `"specversion":"1.0","id":"i","source":"https://example.com","type":"com.example.test"`
	without := func(name string) string {
		parts := slices.DeleteFunc(strings.Split(base, ","), func(s string) bool { return strings.HasPrefix(s, `"`+name+`"`) })
		return "{" + strings.Join(parts, ",") + "}"
	}
	with := func(member string) string {
		name, _, _ := strings.Cut(member, ":")
		return strings.TrimSuffix(without(strings.Trim(name, `"`)), "}") + "," + member + "}"
	}
	valid := []string{
		with(`"id":"minimal"`), with(`"source":"#fragment"`), with(`"source":"/relative/path"`), with(`"source":"urn:uuid:1"`), with(`"source":"mailto:a@example.com"`),
		with(`"datacontenttype":null`), with(`"dataschema":null`), with(`"subject":null`), with(`"time":null`), with(`"subject":"s"`),
		with(`"datacontenttype":"text/plain"`), with(`"dataschema":"https://example.com/schema"`),
		with(`"time":"2018-04-05T17:31:00Z"`), with(`"time":"2018-04-05T17:31:00.000000000Z"`), with(`"time":"2018-04-05T18:31:00+01:00"`), with(`"time":"2018-04-05T16:31:00-01:00"`),
		with(`"data":"text","datacontenttype":"text/plain"`), with(`"data":"<a/>","datacontenttype":"application/xml"`), with(`"data":{}`), with(`"data":[1,null]`), with(`"data_base64":"e30=","datacontenttype":"application/json"`),
		with(`"extinteger":10`), with(`"extinteger":-2147483648`), with(`"extboolean":true`), with(`"extstring":"text"`), with(`"exturiref":"//authority/path"`), with(`"extbinary":"TWE="`), with(`"exttimestamp":"2023-03-31T15:12:00Z"`),
	}
	invalid := []string{
		without("specversion"), without("id"), without("type"), without("source"),
		with(`"time":"lunchtime"`), with(`"time":"2018-04-05T18:31Z"`), with(`"time":"2018-04-05T18:31:00X"`), with(`"time":"2018-04-05T18:31:00+25:00"`), with(`"time":"2018-04-05T18:31:00+xx:00"`), with(`"time":"2018-04-05T18:31:00+05"`),
		with(`"id":""`), with(`"type":""`), with(`"source":""`), with(`"specversion":""`), with(`"specversion":"0.9"`), with(`"specversion":"0.3"`),
		with(`"datacontenttype":"xyz"`), with(`"datacontenttype":""`), with(`"dataschema":""`), with(`"subject":""`), with(`"id":25`), with(`"id":{"xyz":"abc"}`),
		with(`"MyExtension":"bad"`), with(`"my.extension":"bad"`), with(`"my_extension":"bad"`), with(`"ext":1.5`), with(`"ext":4247483647`), with(`"ext":[]`), with(`"data":"text","data_base64":"e30="`),
	}
	for _, doc := range valid {
		checkValid(t, doc, []byte(doc))
	}
	for _, doc := range invalid {
		checkInvalid(t, doc, []byte(doc))
	}
	two := "[" + with(`"id":"1"`) + "," + with(`"id":"1"`) + "]"
	for doc, want := range map[string]int{"[]": 0, two: 0, "[" + with(`"id":"1"`) + "," + with(`"specversion":"0.9"`) + "]": 1, "[" + without("id") + "]": 1, `["no object",` + with(`"id":"1"`) + "]": 1} {
		if got := badInBatch(t, []byte(doc)); got != want {
			t.Errorf("batch %s has %d bad events, want %d", doc, got, want)
		}
	}
}

// extra takes the types of the suite, so that nothing but CloudEvents' own rules can refuse.
func extra() *usage.Parser {
	return usage.NewParser(usage.Limits{ExtraTypes: []string{"com.example.test", "io.cloudevents.test", "mock.test"}})
}

func checkValid(t *testing.T, name string, doc []byte) {
	t.Helper()
	if _, faults := extra().Event(doc); len(faults) > 0 {
		t.Errorf("%s is refused although valid: %s", name, codes(faults))
	}
	if _, faults := usage.NewParser(usage.Limits{}).Event(doc); codes(faults) != "/type unknown-type" {
		t.Errorf("%s without extra types: %s, want only unknown-type", name, codes(faults))
	}
}

func checkInvalid(t *testing.T, name string, doc []byte) {
	t.Helper()
	if e, faults := extra().Event(doc); len(faults) == 0 {
		t.Errorf("%s is taken although invalid: %+v", name, e)
	}
}

func badInBatch(t *testing.T, doc []byte) (bad int) {
	t.Helper()
	err := extra().Batch(doc, func(_ int, _ []byte, _ usage.Event, faults []usage.Fault) error {
		if len(faults) > 0 {
			bad++
		}
		return nil
	})
	if err != nil {
		t.Errorf("batch %s: %v", doc, err)
	}
	return bad
}

// TestConformanceSuite runs the public suite's own files, where the folder of real data is there.
func TestConformanceSuite(t *testing.T) {
	data := os.Getenv("COUNTINGHOUSE_DATA")
	if data == "" {
		data = filepath.Join("..", "..", "..", "shared", "data")
	}
	root := filepath.Join(data, "cloudevents-conformance")
	if _, err := os.Stat(root); err != nil {
		t.Logf("%s is not there: TestCloudEventsRules has the same cases in our own words", root)
		return
	}
	format := filepath.Join(root, "conformance", "format", "json")
	for _, c := range suite(t, filepath.Join(format, "valid-events.json")) {
		checkValid(t, c.ID, c.Event)
	}
	for _, c := range suite(t, filepath.Join(format, "invalid-events.json")) {
		checkInvalid(t, c.ID, c.Event)
	}
	for _, c := range suite(t, filepath.Join(format, "valid-batches.json")) {
		if bad := badInBatch(t, c.Batch); bad != 0 {
			t.Errorf("%s: %d events refused", c.ID, bad)
		}
	}
	for _, c := range suite(t, filepath.Join(format, "invalid-batches.json")) {
		if bad := badInBatch(t, c.Batch); bad == 0 {
			t.Errorf("%s: nothing refused", c.ID)
		}
	}
	javaDocuments(t, filepath.Join(root, "sdk-java"))
}

// javaDocuments: upper-case extension names, which that SDK lets pass, are forbidden by CloudEvents 1.0.
func javaDocuments(t *testing.T, root string) {
	t.Helper()
	refused := map[string]bool{"fail_numeric_decimal.json": true, "fail_numeric_long.json": true, "json_data_with_ext_invalid.json": true, "json_data_with_ext_upper_case.json": true}
	for _, version := range []string{"v1", "v03"} {
		files, err := filepath.Glob(filepath.Join(root, version, "*.json"))
		if err != nil || len(files) < 14 {
			t.Errorf("%s has %d documents, %v", version, len(files), err)
		}
		for _, file := range files {
			doc, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if version == "v03" || refused[filepath.Base(file)] {
				checkInvalid(t, file, doc)
			} else {
				checkValid(t, file, doc)
			}
		}
	}
}

type suiteCase struct {
	ID    string         `json:"id"`
	Event jsontext.Value `json:"event"`
	Batch jsontext.Value `json:"batch"`
}

func suite(t *testing.T, file string) []suiteCase {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Tests []suiteCase `json:"tests"`
	}
	if err := json.Unmarshal(bytes.TrimPrefix(b, []byte("\ufeff")), &s); err != nil || len(s.Tests) == 0 {
		t.Fatalf("%s: %d cases, %v", file, len(s.Tests), err)
	}
	return s.Tests
}
