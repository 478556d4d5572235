package reporter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/usage"
)

const (
	replayKeyLife = time.Minute            // a key is made for each event that is sent again, and lives no longer
	replayWait    = 10 * time.Second       // for ingest to know the key and to answer
	replayPause   = 200 * time.Millisecond // between tries, while ingest does not know the key yet, or is not there for a moment
	answerMax     = 64 << 10               // bytes of ingest's answer
)

// resender sends events of dead letters through ingest again, on behalf of operators: the reporter itself writes no
// usage. Ingest judges the event as any other, for the operator's own tenant.
type resender struct {
	ingest  string
	control *control.Store
	now     func() time.Time
	wait    time.Duration
}

// replay is how the pages send dead letters again; nil where nobody said where ingest is.
func (a *App) replay(now func() time.Time) func(ctx context.Context, who *access.Viewer, at report.Position, event []byte) error {
	if a.cfg.Ingest == "" {
		return nil
	}
	return (&resender{ingest: strings.TrimSuffix(a.cfg.Ingest, "/"), control: a.control.Store, now: now, wait: replayWait}).send
}

// send sends one event again. It is in the audit log whether it was taken or not. What lies too far in the past for a
// sender is sent as backfill for who may give that right away (access.ScopeRights), and recorded now, whatever it says of
// itself.
func (r *resender) send(ctx context.Context, who *access.Viewer, at report.Position, event []byte) error {
	position := fmt.Sprintf("%d:%d:%d", at.Shard, at.Seq, at.Idx)
	if err := r.control.Record(ctx, control.Actor{By: who.Actor(), Viewer: who}, who.Tenant, "dead-letter.replayed", position, nil); err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	scopes := []string{"events:write", access.ScopeDLQWrite}
	err := r.as(ctx, who, scopes, position, event)
	var refused *refusal
	if !errors.As(err, &refused) || !refused.past {
		return err
	}
	if !who.ManagesAll() {
		return fmt.Errorf("%w; an event of that time takes the scope %s, which no role of yours may give: ask an operator who manages all roles, or use countinghouse dlq replay with a key that has it", err, scopeBackfill)
	}
	if event, err = recordedNow(event); err != nil {
		return err
	}
	return r.as(ctx, who, append(scopes, scopeBackfill), position, event)
}

const scopeBackfill = "events:backfill"

// recordedNow is an event without the member that backfill would believe. An event is one object by now: ingest read it.
func recordedNow(event []byte) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(event, &members); err != nil {
		return nil, fmt.Errorf("read the event: %w", err)
	}
	if _, has := members["recordedtime"]; !has {
		return event, nil
	}
	delete(members, "recordedtime")
	return json.Marshal(members)
}

// as sends an event with a key of these scopes, which nobody else has and which ends soon.
func (r *resender) as(ctx context.Context, who *access.Viewer, scopes []string, position string, event []byte) error {
	key := control.NewToken()
	spec := control.Spec{Tenant: who.Tenant, Name: "replay of " + position, Scopes: scopes, Expires: r.now().Add(replayKeyLife), By: who.Actor()}
	if _, err := r.control.CreateWithSecret(ctx, key, spec); err != nil {
		return fmt.Errorf("make a key for it: %w", err)
	}
	for {
		status, err := r.post(ctx, key, position, event)
		if status != http.StatusUnauthorized && status != http.StatusServiceUnavailable {
			return err
		}
		pause := time.NewTimer(replayPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return err
		case <-pause.C:
		}
	}
}

// refusal is what ingest said.
type refusal struct {
	text string
	past bool // it lies outside the times that are taken of everybody
}

func (r *refusal) Error() string { return "ingest refused it: " + r.text }

func (r *resender) post(ctx context.Context, key, position string, event []byte) (status int, err error) {
	target := r.ingest + "/api/v1/events?replay_of=" + url.QueryEscape(position)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(event))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/cloudevents+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, errors.New("ingest does not answer; nothing was sent twice, so try again in a moment")
	}
	defer resp.Body.Close()
	if resp.StatusCode < http.StatusMultipleChoices {
		return resp.StatusCode, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	var p problem.Problem
	if err != nil || json.Unmarshal(body, &p) != nil || p.Detail == "" {
		return resp.StatusCode, &refusal{text: resp.Status}
	}
	refused := &refusal{text: p.Detail}
	for _, item := range p.Errors {
		refused.text += "; " + item.Pointer + " " + item.Detail
		refused.past = refused.past || item.Code == usage.CodeTimeWindow
	}
	return resp.StatusCode, refused
}
