package ingest_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/countinghouse/countinghouse/internal/eventlog"
)

// event is one valid usage.metered event as JSON; mend changes it by replacing text.
func event(id string, mend ...string) string {
	e := `{"specversion":"1.0","id":"` + id + `","source":"/test","type":"usage.metered","subject":"acme",` +
		`"time":"2026-03-10T12:00:00Z","data":{"meter":"tokens","quantity":"12.5","dimensions":{"model":"m1"}}}`
	return strings.NewReplacer(mend...).Replace(e)
}

const badQuantity = `"nan"`

func compress(t testing.TB, encoding, body string) []byte {
	t.Helper()
	var b bytes.Buffer
	var err error
	switch encoding {
	case "gzip":
		w := gzip.NewWriter(&b)
		_, err = w.Write([]byte(body))
		err = firstError(err, w.Close())
	case "zstd":
		w, zerr := zstd.NewWriter(&b)
		if zerr != nil {
			t.Fatal(zerr)
		}
		_, err = w.Write([]byte(body))
		err = firstError(err, w.Close())
	default:
		return []byte(body)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Every content type, every encoding, atomic and partial, with and without a bad event: what is
// answered 202 is in the log, and nothing else is.
func TestFormsEncodingsPartial(t *testing.T) {
	t.Parallel()
	d := open(t)
	type form struct {
		contentType string
		single      bool
		body        func(good, bad string) string
		headers     func(id string, bad bool) http.Header
	}
	list := func(sep, from, to string) func(good, bad string) string {
		return func(good, bad string) string {
			parts := []string{event(good + "-a"), event(good + "-b")}
			if bad != "" {
				parts = []string{parts[0], event(bad, `"12.5"`, badQuantity), parts[1]}
			}
			return from + strings.Join(parts, sep) + to
		}
	}
	one := func(good, bad string) string {
		if bad != "" {
			return event(bad, `"12.5"`, badQuantity)
		}
		return event(good + "-a")
	}
	forms := map[string]form{
		"structured":  {contentType: "application/cloudevents+json; charset=UTF-8", single: true, body: one},
		"batch":       {contentType: "application/cloudevents-batch+json", body: list(",", "[", "]")},
		"json array":  {contentType: "application/json", body: list(" ,\n", " [", "] ")},
		"json object": {contentType: "application/json; charset=utf-8", single: true, body: one},
		"ndjson":      {contentType: "application/x-ndjson", body: list("\n\r\n", "", "\n")},
		"binary": {contentType: "application/json", single: true,
			body: func(_, bad string) string {
				if bad != "" {
					return `{"meter":"tokens","quantity":"nan"}`
				}
				return `{"meter":"tokens","quantity":12.5}`
			},
			headers: func(id string, _ bool) http.Header {
				return http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {id}, "Ce-Source": {"/test"}, "Ce-Type": {"usage.metered"},
					"Ce-Subject": {`"a%20cme%C3%A9"`}, "Ce-Time": {"2026-03-10T12:00:00Z"}}
			}},
	}
	n := 0
	for name, f := range forms {
		for _, encoding := range []string{"", "identity", "gzip", "zstd"} {
			for _, partial := range []bool{false, true} {
				for _, bad := range []bool{false, true} {
					n++
					good, badID := fmt.Sprintf("g%d", n), ""
					want := []string{good + "-a", good + "-b"}
					if f.single {
						want = want[:1]
					}
					if bad {
						badID = fmt.Sprintf("bad%d", n)
					}
					if bad && (!partial || f.single) {
						want = nil
					}
					t.Run(fmt.Sprintf("%s/%s/partial=%v/bad=%v", name, encoding, partial, bad), func(t *testing.T) {
						h := http.Header{"Content-Type": {f.contentType}}
						if encoding != "" {
							h.Set("Content-Encoding", encoding)
						}
						if f.headers != nil {
							for k, v := range f.headers(good+"-a", bad) {
								h[k] = v
							}
						}
						query := ""
						if partial {
							query = "?partial=true"
						}
						before := d.ids(t)
						got := d.post(t, query, h, compress(t, encoding, f.body(good, badID)))
						d.expectStored(t, before, want)
						checkAnswer(t, got, want, bad, f.single)
					})
				}
			}
		}
	}
}

func checkAnswer(t *testing.T, got answer, want []string, bad, single bool) {
	t.Helper()
	if len(want) == 0 {
		if got.status != 422 || got.problem.Code != "invalid-events" || len(got.problem.Errors) != 1 {
			t.Fatalf("answered %d %s, want 422 invalid-events", got.status, got.body)
		}
		e := got.problem.Errors[0]
		index := 1
		if single {
			index = 0
		}
		if *e.Index != index || e.Pointer != "/data/quantity" || e.Code != "bad-quantity" {
			t.Errorf("fault %s, want index %d, /data/quantity, bad-quantity", got.body, index)
		}
		return
	}
	if got.status != 202 || got.taken.Accepted != len(want) {
		t.Fatalf("answered %d %s, want 202 accepted %d", got.status, got.body, len(want))
	}
	rejected := 0
	if bad {
		rejected = 1
	}
	if got.taken.Rejected != rejected || len(got.taken.Errors) != rejected {
		t.Errorf("answered %s, want %d rejected", got.body, rejected)
	}
	if !strings.Contains(got.body, `"errors":[`) || len(got.taken.CorrelationID) != 36 || got.taken.CorrelationID[14] != '7' {
		t.Errorf("answered %s, want errors and a UUIDv7 as correlation_id", got.body)
	}
}

func TestEmptyBatchIsTaken(t *testing.T) {
	t.Parallel()
	d := open(t)
	for contentType, body := range map[string]string{
		"application/cloudevents-batch+json": "[]", "application/json": " [ ] ", "application/x-ndjson": "\n\n",
	} {
		for _, query := range []string{"", "?partial=true"} {
			got := d.post(t, query, http.Header{"Content-Type": {contentType}}, []byte(body))
			if got.status != 202 || !strings.HasPrefix(got.body, `{"accepted":0,"rejected":0,"correlation_id":"`) {
				t.Errorf("%s%s: %d %s, want 202 accepted 0", contentType, query, got.status, got.body)
			}
		}
	}
}

// TestReplayNamesTheOldPosition: what dlq replay sends goes into a chunk of its own that names the dead
// letter; it takes the scope to write dead letters.
func TestReplayNamesTheOldPosition(t *testing.T) {
	t.Parallel()
	d := open(t)
	event := []byte(fmt.Sprintf(`{"specversion":"1.0","id":"1","source":"/s","type":"usage.metered","time":%q,"data":{"meter":"tokens","quantity":1}}`, now().Format(time.RFC3339)))
	header := http.Header{"Content-Type": {"application/cloudevents+json"}}
	if got := d.post(t, "?replay_of=0:4711:3", header, event); got.status != 403 {
		t.Errorf("without dlq:write: %d %s, want 403", got.status, got.body)
	}
	d.key = d.newKey(t, "acme", "events:write", "dlq:write")
	d.awaitKey(t, d.key, http.StatusAccepted)
	for _, bad := range []string{"4711", "0:0:1", "0:1:x", "99999:1:1"} {
		if got := d.post(t, "?replay_of="+bad, header, event); got.status != 400 {
			t.Errorf("replay_of=%s: %d %s, want 400", bad, got.status, got.body)
		}
	}
	if got := d.post(t, "?replay_of=0:4711:3", header, event); got.status != 202 {
		t.Fatalf("replay: %d %s, want 202", got.status, got.body)
	}
	m := d.message(t, 1)
	var c eventlog.Chunk
	if err := eventlog.DecodeChunk(m.Data, &c); err != nil {
		t.Fatal(err)
	}
	if c.ReplayOf == nil || c.ReplayOf.String() != "0:4711:3" || len(c.Events) != 1 {
		t.Errorf("chunk replays %v with %d events, want 0:4711:3 with 1", c.ReplayOf, len(c.Events))
	}
}
