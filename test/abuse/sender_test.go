package abuse_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/oracle"
)

// sender is a producer beside the load. What it sends as good events the oracle knows.
type sender struct {
	f      *fight.Fight
	tenant string
	source string
	token  string
	http   *http.Client
	at     time.Time
	next   int
}

const (
	answerWait = time.Minute // longer than anything may take, so that a hang is seen as one
	senderIdle = 64          // connections kept
)

func newSender(f *fight.Fight, tenant, source string) *sender {
	f.T.Helper()
	s := &sender{
		f: f, tenant: tenant, source: source, token: f.Rig.Key(tenant, "events:write", "usage:read"),
		at:   time.Now().UTC().Truncate(time.Hour).Add(-time.Hour),
		http: &http.Client{Timeout: answerWait, Transport: &http.Transport{MaxIdleConnsPerHost: senderIdle}},
	}
	f.T.Cleanup(s.http.CloseIdleConnections)
	return s
}

// event is a new event of one unit.
func (s *sender) event() *oracle.Event {
	s.next++
	return s.named(fmt.Sprintf("event-%d", s.next), 1)
}

func (s *sender) events(n int) []*oracle.Event {
	all := make([]*oracle.Event, n)
	for i := range all {
		all[i] = s.event()
	}
	return all
}

// named is an event with an id of the caller's.
func (s *sender) named(id string, units int64) *oracle.Event {
	return &oracle.Event{
		Tenant: s.tenant, Source: s.source, ID: id, Type: "usage.metered", Account: "abused", Meter: "abuse",
		Nanos: new(big.Int).Mul(big.NewInt(units), big.NewInt(1_000_000_000)), At: s.at.UnixMilli(),
	}
}

// text is an event as CloudEvents JSON.
func text(e *oracle.Event) string {
	return fmt.Sprintf(`{"specversion":"1.0","type":%q,"source":%q,"id":%q,"subject":%q,"time":%q,"data":{"meter":%q,"quantity":"%s"}}`,
		e.Type, e.Source, e.ID, e.Account, time.UnixMilli(e.At).UTC().Format(time.RFC3339), e.Meter, new(big.Int).Quo(e.Nanos, big.NewInt(1_000_000_000)))
}

func batch(events []*oracle.Event) []byte {
	var b bytes.Buffer
	b.WriteByte('[')
	for i, e := range events {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(text(e))
	}
	b.WriteByte(']')
	return b.Bytes()
}

func items(kind oracle.Kind, events []*oracle.Event) []oracle.Item {
	all := make([]oracle.Item, len(events))
	for i, e := range events {
		all[i] = oracle.Item{Kind: kind, Event: e}
	}
	return all
}

// answer is what a client got; status 0 is none.
type answer struct {
	status int
	header http.Header
	code   string // of a problem
	body   []byte
	took   time.Duration
}

func (a *answer) String() string {
	return fmt.Sprintf("%d %s after %s: %.300s", a.status, a.code, a.took.Round(time.Millisecond), a.body)
}

// send posts events of which the oracle is told.
func (s *sender) send(ctx context.Context, kind oracle.Kind, events ...*oracle.Event) answer {
	sent := items(kind, events)
	s.f.Load.Oracle().Sending(sent)
	a := s.post(ctx, batch(events))
	if a.status == http.StatusAccepted {
		s.f.Load.Oracle().Acked(sent)
	}
	return a
}

func (s *sender) post(ctx context.Context, body []byte) answer {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.f.Rig.URL(), bytes.NewReader(body))
	if err != nil {
		return answer{body: []byte(err.Error())}
	}
	req.Header.Set("Content-Type", "application/cloudevents-batch+json")
	return s.do(req)
}

func (s *sender) get(ctx context.Context, address string) answer {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return answer{body: []byte(err.Error())}
	}
	return s.do(req)
}

func (s *sender) do(req *http.Request) answer {
	begun := time.Now()
	if req.Header.Get("Authorization") == "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	res, err := s.http.Do(req)
	if err != nil {
		return answer{body: []byte(err.Error()), took: time.Since(begun)}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{body: []byte(err.Error()), took: time.Since(begun)}
	}
	return answer{status: res.StatusCode, header: res.Header, body: body, code: codeOf(body), took: time.Since(begun)}
}

// codeOf is the code of a problem, "" of anything else.
func codeOf(body []byte) string {
	var p struct{ Code string }
	_ = json.Unmarshal(bytes.TrimSpace(body), &p) // CSV, or a page of events: no problem
	return p.Code
}

// server is the host and port that events are posted to.
func server(f *fight.Fight) string {
	host, _, _ := strings.Cut(strings.TrimPrefix(f.Rig.URL(), "http://"), "/")
	return host
}
