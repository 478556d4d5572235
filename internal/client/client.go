// Package client speaks to ingest and reporter over HTTP, as the command line and the importer do.
//
// Guarantee: what was sent is sent again, byte for byte with the same ids, until ingest has answered for
// it: a time-out or a 503 says nothing about whether the log has the events, and identity makes the
// repeat safe. Only an answer that no repeat would change ends a send: a refusal, or
// the caller's context. A server that was never there at all is ErrUnreachable at once, because that is
// a wrong address far more often than a restart.
//
// Reads are retried a few times and then fail.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/countinghouse/countinghouse/internal/problem"
)

// ErrUnreachable marks a server that could not be reached. The command line exits 69.
var ErrUnreachable = errors.New("is unreachable")

const (
	attemptWait = 30 * time.Second // one request, answer included; ingest answers within its own 10 s
	backoffMin  = 50 * time.Millisecond
	backoffMax  = 5 * time.Second
	readTries   = 4
	bodyMax     = 64 << 20 // of an answer held in memory
)

// Config of a client. The zero value of every field but the URLs is usable.
type Config struct {
	Ingest   string // base URL
	Reporter string // base URL
	Token    string // API key

	// OnRetry is told when a send has to wait, so that a person sees why nothing moves.
	OnRetry func(cause error, wait time.Duration)
	HTTP    *http.Client
}

// Client is safe for concurrent use.
type Client struct {
	cfg     Config
	http    *http.Client
	reached atomic.Bool // ingest has answered at least once
}

// New is a client; it connects to nothing yet.
func New(cfg Config) (*Client, error) {
	for _, u := range []*string{&cfg.Ingest, &cfg.Reporter} {
		if *u == "" {
			continue
		}
		p, err := url.Parse(*u)
		if err != nil || p.Host == "" || (p.Scheme != "http" && p.Scheme != "https") {
			return nil, fmt.Errorf("%q is no http or https URL", *u)
		}
		*u = strings.TrimRight(*u, "/")
	}
	c := &Client{cfg: cfg, http: cfg.HTTP}
	if c.http == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = 32 // one per request in flight, or every second request dials
		c.http = &http.Client{Transport: t}
	}
	return c, nil
}

// Receipt is ingest's answer.
type Receipt struct {
	Accepted      int            `json:"accepted"`
	Rejected      int            `json:"rejected"`
	CorrelationID string         `json:"correlation_id"`
	Errors        []problem.Item `json:"errors"`
}

// SendEvents posts a JSON array of CloudEvents and takes the good ones: errors name the rest.
func (c *Client) SendEvents(ctx context.Context, batch []byte) (Receipt, error) {
	return c.Send(ctx, "application/cloudevents-batch+json", batch, true)
}

// Send posts one body until ingest has answered for it. With partial, a refusal of every event is a
// Receipt; without it any refusal is a *problem.Problem and nothing was stored.
func (c *Client) Send(ctx context.Context, contentType string, body []byte, partial bool) (Receipt, error) {
	query := ""
	if partial {
		query = "?partial=true"
	}
	return c.post(ctx, query, contentType, body, partial)
}

// Replay posts the event of a dead letter again, in a chunk that names its old position (shard:seq:idx).
func (c *Client) Replay(ctx context.Context, position string, doc []byte) (Receipt, error) {
	return c.post(ctx, "?replay_of="+url.QueryEscape(position), "application/cloudevents+json", doc, false)
}

func (c *Client) post(ctx context.Context, query, contentType string, body []byte, partial bool) (Receipt, error) {
	if c.cfg.Ingest == "" {
		return Receipt{}, errors.New("no ingest URL is known; pass --url or --dir")
	}
	target := c.cfg.Ingest + "/api/v1/events" + query
	for try := 0; ; try++ {
		r, wait, err := c.send(ctx, target, contentType, body, partial)
		if err == nil || wait < 0 {
			return r, err
		}
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
		wait = max(wait, backoff(try))
		if c.cfg.OnRetry != nil {
			c.cfg.OnRetry(err, wait)
		}
		if err := pause(ctx, wait); err != nil {
			return r, err
		}
	}
}

// send is one attempt. wait < 0: the error is final.
func (c *Client) send(ctx context.Context, target, contentType string, body []byte, partial bool) (Receipt, time.Duration, error) {
	const final = -1
	actx, cancel := context.WithTimeout(ctx, attemptWait)
	defer cancel()
	resp, answer, err := c.roundTrip(actx, http.MethodPost, target, contentType, "application/json", body)
	if err != nil {
		if ctx.Err() != nil {
			return Receipt{}, final, context.Cause(ctx)
		}
		if !c.reached.Load() && neverConnected(err) {
			return Receipt{}, final, unreachable(target, err)
		}
		return Receipt{}, 0, err // the effect may have happened: the same bytes again
	}
	c.reached.Store(true)
	switch {
	case resp.StatusCode/100 == 2:
		var r Receipt
		if err := json.Unmarshal(answer, &r); err != nil {
			return r, final, fmt.Errorf("read receipt of %s: %w", target, err)
		}
		return r, 0, nil
	case retryable(resp.StatusCode):
		return Receipt{}, retryAfter(resp), refusal(resp, answer)
	}
	p := refusal(resp, answer)
	if partial && p.Status == http.StatusUnprocessableEntity && indexed(p.Errors) {
		return Receipt{Rejected: len(p.Errors), CorrelationID: p.CorrelationID, Errors: p.Errors}, 0, nil
	}
	return Receipt{}, final, p
}

func indexed(items []problem.Item) bool {
	for _, e := range items {
		if e.Index != nil {
			return true
		}
	}
	return false
}

func (c *Client) roundTrip(ctx context.Context, method, target, contentType, accept string, body []byte) (*http.Response, []byte, error) {
	resp, err := c.begin(ctx, method, target, contentType, accept, body)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end below, or lost with the connection
	answer, err := whole(target, resp)
	return resp, answer, err
}

// begin sends a request; the caller reads and closes the answer's body.
func (c *Client) begin(ctx context.Context, method, target, contentType, accept string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", target, err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	if c.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	return c.http.Do(req)
}

// whole reads an answer into memory.
func whole(target string, resp *http.Response) ([]byte, error) {
	answer, err := io.ReadAll(io.LimitReader(resp.Body, bodyMax+1))
	if err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", target, err)
	}
	if len(answer) > bodyMax {
		return nil, fmt.Errorf("answer of %s is longer than %d bytes; ask for less", target, bodyMax)
	}
	return answer, nil
}

// reporter is the address of a path of the reporter below /api/v1.
func (c *Client) reporter(path string, query url.Values) (string, error) {
	if c.cfg.Reporter == "" {
		return "", errors.New("no reporter URL is known; pass --reporter-url or --dir")
	}
	target := c.cfg.Reporter + "/api/v1" + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	return target, nil
}

// Get reads a JSON answer of the reporter into `into`, a pointer. path starts below /api/v1.
func (c *Client) Get(ctx context.Context, path string, query url.Values, into any) error {
	answer, err := c.read(ctx, http.MethodGet, path, query, "application/json", nil)
	if err != nil {
		return err
	}
	return decode(path, answer, into)
}

// GetAs reads an answer of the reporter in another format, such as text/csv.
func (c *Client) GetAs(ctx context.Context, path string, query url.Values, accept string) ([]byte, error) {
	return c.read(ctx, http.MethodGet, path, query, accept, nil)
}

// Call sends a JSON body to the reporter and reads the answer into `into`, which may be nil. It is not
// retried.
func (c *Client) Call(ctx context.Context, method, path string, body, into any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encode body of %s: %w", path, err)
		}
	}
	answer, err := c.read(ctx, method, path, nil, "application/json", text)
	if err != nil || into == nil {
		return err
	}
	return decode(path, answer, into)
}

func decode(path string, answer []byte, into any) error {
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("read answer of %s: %w", path, err)
	}
	return nil
}

func (c *Client) read(ctx context.Context, method, path string, query url.Values, accept string, body []byte) ([]byte, error) {
	target, err := c.reporter(path, query)
	if err != nil {
		return nil, err
	}
	contentType := ""
	if body != nil {
		contentType = "application/json"
	}
	for try := 0; ; try++ {
		resp, answer, err := c.roundTrip(ctx, method, target, contentType, accept, body)
		var wait time.Duration
		switch {
		case err != nil:
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			err = unreachable(target, err)
		case resp.StatusCode/100 == 2:
			return answer, nil
		default:
			err = refusal(resp, answer)
			if !retryable(resp.StatusCode) {
				return nil, err
			}
			wait = retryAfter(resp)
		}
		if method != http.MethodGet || try+1 >= readTries {
			return nil, err
		}
		if err := pause(ctx, max(wait, backoff(try))); err != nil {
			return nil, err
		}
	}
}

func retryable(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// refusal is the problem of an answer; whatever is no problem document becomes one.
func refusal(resp *http.Response, answer []byte) *problem.Problem {
	p := &problem.Problem{}
	if err := json.Unmarshal(answer, p); err != nil || p.Code == "" {
		p = problem.New(resp.StatusCode, "http-"+strconv.Itoa(resp.StatusCode), strings.TrimSpace(string(answer[:min(len(answer), 200)])))
	}
	p.Status = resp.StatusCode
	return p
}

func retryAfter(resp *http.Response) time.Duration {
	s, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || s < 0 {
		return 0
	}
	return min(time.Duration(s)*time.Second, time.Minute)
}

// backoff doubles from 50 ms to 5 s, with jitter so that producers do not come back in step.
func backoff(try int) time.Duration {
	d := backoffMin << min(try, 10)
	d = min(d, backoffMax)
	return d/2 + rand.N(d/2)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// neverConnected tells a refused or unresolvable address from a connection that broke.
func neverConnected(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func unreachable(target string, err error) error {
	u, perr := url.Parse(target)
	if perr != nil {
		return fmt.Errorf("%s %w: %w", target, ErrUnreachable, err)
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err
	}
	return fmt.Errorf("%s://%s %w (%w); is `countinghouse up` running, and is the address right?", u.Scheme, u.Host, ErrUnreachable, err)
}
