package limits_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

func logged(f *fight.Fight) (n uint64) {
	f.T.Helper()
	f.Rig.Until("the log answers", rig.SettleWait, func(ctx context.Context) (ok bool) {
		var err error
		n, err = f.Rig.Logged(ctx)
		return err == nil
	})
	return n
}

func counted(f *fight.Fight) (n uint64) {
	f.T.Helper()
	f.Rig.Until("the warehouse answers", rig.SettleWait, func(ctx context.Context) (ok bool) {
		var err error
		n, err = f.Rig.Counted(ctx)
		return err == nil
	})
	return n
}

// problem is what ingest says of a request that it refuses.
type problem struct {
	Code   string `json:"code"`
	Errors []struct {
		Code string `json:"code"`
	} `json:"errors"`
}

// codes are the problem's own code and those of its parts.
func (p problem) codes() []string {
	all := []string{p.Code}
	for _, e := range p.Errors {
		all = append(all, e.Code)
	}
	return all
}

// judged sends a batch until it is taken or refused for what it is: a machine that stands still is answered 503.
func judged(t *testing.T, r *rig.Rig, body []byte) (status int, p problem) {
	t.Helper()
	r.Until("ingest judges a batch", rig.SettleWait, func(context.Context) bool {
		status, p = post(t, http.DefaultClient, r.URL(), r.Token("acme"), body)
		return status < http.StatusInternalServerError && status != http.StatusTooManyRequests
	})
	return status, p
}

// post sends a batch, once, on a connection of its own: one that was idle may be closed as it is used again.
func post(t *testing.T, client *http.Client, url, token string, body []byte) (status int, p problem) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header = http.Header{"Content-Type": {"application/cloudevents-batch+json"}, "Authorization": {"Bearer " + token}}
	res, err := client.Do(req)
	if err != nil {
		t.Errorf("POST: %v", err)
		return 0, p
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Errorf("POST: %v", err)
	}
	if res.StatusCode != http.StatusAccepted {
		_ = json.Unmarshal(text, &p) // no problem has no code
	}
	return res.StatusCode, p
}

// get reads JSON from the reporter.
func get(t *testing.T, address, path, token string, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"/api/v1"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s: %v: %s", path, res.Status, err, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
}
