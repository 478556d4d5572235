//go:build realdata

package realdata

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// conformance posts every JSON document of the CloudEvents suites: what the specification calls invalid
// is refused with a 4xx, what it calls valid is taken.
func conformance(t *testing.T, s *system) {
	n := s.tenant(t, "conformance")
	files := s.summary(t, "cloudevents-conformance")
	documents, accepted := 0, 0
	for file, about := range files {
		path := filepath.Join(s.data, "cloudevents-conformance", file)
		var docs []document
		if list, ok := about.([]any); ok {
			docs = sdkJava(t, path, list)
		} else {
			docs = suite(t, path, about.(map[string]any))
		}
		for _, d := range docs {
			documents++
			accepted += n.offer(t, d)
		}
	}
	// The suite repeats identities: within a batch, and with other content across documents.
	sum := n.settle(t, accepted)
	if sum.Accepted != accepted || sum.Stored+sum.Duplicate+sum.Conflict != accepted || sum.Duplicate == 0 {
		t.Errorf("ledger %+v after %d accepted events", sum, accepted)
	}
	t.Logf("%d documents, %d events accepted, ledger %+v", documents, accepted, sum)
}

type document struct {
	name, contentType string
	body              []byte
	valid             bool
	events            int
}

// suite reads a file of github.com/cloudevents/conformance.
func suite(t *testing.T, path string, about map[string]any) []document {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		TestType string
		Tests    []struct {
			ID    string
			Event json.RawMessage
			Batch json.RawMessage
		}
	}
	if err := json.Unmarshal(bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf")), &file); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(len(file.Tests)) != fmt.Sprint(about["tests"]) {
		t.Fatalf("%s: %d tests, want %v", path, len(file.Tests), about["tests"])
	}
	var docs []document
	for _, test := range file.Tests {
		d := document{name: test.ID, valid: strings.HasPrefix(file.TestType, "Valid"), body: test.Event, contentType: "application/cloudevents+json", events: 1}
		if test.Batch != nil {
			var list []json.RawMessage
			if err := json.Unmarshal(test.Batch, &list); err != nil {
				t.Fatal(err)
			}
			d.body, d.contentType, d.events = test.Batch, "application/cloudevents-batch+json", len(list)
		}
		docs = append(docs, d)
	}
	return docs
}

// sdkJava reads the documents of github.com/cloudevents/sdk-java. Version 0.3 is not taken at all; of
// version 1.0 these break the specification: extension values are integers of 32 bits, names lower case.
func sdkJava(t *testing.T, dir string, names []any) []document {
	t.Helper()
	invalid := []string{"fail_numeric_decimal.json", "fail_numeric_long.json", "json_data_with_ext_invalid.json", "json_data_with_ext_upper_case.json"}
	var docs []document
	for _, name := range names {
		file := name.(string)
		body, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, document{
			name: filepath.Base(dir) + "/" + file, contentType: "application/cloudevents+json", body: body, events: 1,
			valid: filepath.Base(dir) == "v1" && !slices.Contains(invalid, file),
		})
	}
	return docs
}

// offer posts a document and returns how many events were accepted.
func (n *tenant) offer(t *testing.T, d document) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.at.Ingest+"/api/v1/events", bytes.NewReader(d.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n.key)
	req.Header.Set("Content-Type", d.contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case d.valid && resp.StatusCode != http.StatusAccepted:
		t.Errorf("%s is valid and was refused: %s %s", d.name, resp.Status, answer)
	case !d.valid && resp.StatusCode/100 != 4:
		t.Errorf("%s is invalid and was answered %s %s", d.name, resp.Status, answer)
	case d.valid:
		var receipt struct{ Accepted int }
		if err := json.Unmarshal(answer, &receipt); err != nil || receipt.Accepted != d.events {
			t.Errorf("%s: receipt %s (%v), want %d accepted", d.name, answer, err, d.events)
		}
		return receipt.Accepted
	}
	return 0
}
