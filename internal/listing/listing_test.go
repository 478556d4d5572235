package listing_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/listing"
)

func rows() *listing.Rows {
	r := &listing.Rows{Columns: []string{"account", "event_count", "note"}, Numbers: []string{"event_count"}}
	r.Add("acme", "12", "=1+1")
	r.Add("ünï", "-3", "two\nlines \x1b[31m")
	r.Add("-5.5", "0", `"quoted"`)
	return r
}

func TestFormats(t *testing.T) {
	want := map[listing.Format]string{
		listing.Table: "ACCOUNT  EVENT COUNT  NOTE\n" +
			"acme              12  =1+1\n" +
			"ünï               -3  two lines  [31m\n" +
			"-5.5               0  \"quoted\"\n",
		listing.CSV: "account,event_count,note\n" +
			"acme,12,'=1+1\n" +
			"ünï,-3,\"two\nlines \x1b[31m\"\n" +
			"-5.5,0,\"\"\"quoted\"\"\"\n",
	}
	for f, w := range want {
		var b strings.Builder
		if err := rows().Print(&b, f); err != nil || b.String() != w {
			t.Errorf("%s:\n%q\nwant\n%q (%v)", f, b.String(), w, err)
		}
	}
	var b strings.Builder
	if err := rows().Print(&b, listing.JSON); err != nil {
		t.Fatal(err)
	}
	var back []map[string]any
	if err := json.Unmarshal([]byte(b.String()), &back); err != nil || len(back) != 3 || back[0]["event_count"] != 12.0 || back[0]["note"] != "=1+1" {
		t.Errorf("JSON %s: %v", b.String(), err)
	}
}

func TestEmpty(t *testing.T) {
	for f, want := range map[listing.Format]string{listing.Table: "nothing to show\n", listing.JSON: "[]\n", listing.CSV: "a\n"} {
		var b strings.Builder
		if err := (&listing.Rows{Columns: []string{"a"}}).Print(&b, f); err != nil || b.String() != want {
			t.Errorf("%s: %q, want %q (%v)", f, b.String(), want, err)
		}
	}
	if _, err := listing.Parse("yaml"); err == nil {
		t.Error("yaml is no format")
	}
}
