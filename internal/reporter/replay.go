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
)

const (
	replayKeyLife = time.Minute            // a key is made for each event that is sent again, and lives no longer
	replayWait    = 10 * time.Second       // for ingest to know the key and to answer
	replayPause   = 200 * time.Millisecond // between tries, while ingest does not know the key yet
	answerMax     = 64 << 10               // bytes of ingest's answer
)

// resender sends events of dead letters through ingest again, on behalf of operators: the reporter itself writes no
// usage. Ingest judges the event as any other, for the operator's own tenant.
type resender struct {
	ingest  string
	control *control.Store
	now     func() time.Time
}

// replay is how the pages send dead letters again; nil where nobody said where ingest is.
func (a *App) replay(now func() time.Time) func(ctx context.Context, who *access.Viewer, at report.Position, event []byte) error {
	if a.cfg.Ingest == "" {
		return nil
	}
	return (&resender{ingest: strings.TrimSuffix(a.cfg.Ingest, "/"), control: a.control.Store, now: now}).send
}

// send sends one event again. It is in the audit log whether it was taken or not.
func (r *resender) send(ctx context.Context, who *access.Viewer, at report.Position, event []byte) error {
	position := fmt.Sprintf("%d:%d:%d", at.Shard, at.Seq, at.Idx)
	by := who.Actor()
	if err := r.control.Record(ctx, control.Actor{By: by, Viewer: who}, who.Tenant, "dead-letter.replayed", position, nil); err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	key := control.NewToken()
	spec := control.Spec{Tenant: who.Tenant, Name: "replay of " + position, Scopes: []string{"events:write", access.ScopeDLQWrite}, Expires: r.now().Add(replayKeyLife), By: by}
	if _, err := r.control.CreateWithSecret(ctx, key, spec); err != nil {
		return fmt.Errorf("make a key for it: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, replayWait)
	defer cancel()
	for {
		status, err := r.post(ctx, key, position, event)
		if status != http.StatusUnauthorized {
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
		return resp.StatusCode, fmt.Errorf("ingest refused it: %s", resp.Status)
	}
	text := p.Detail
	for _, item := range p.Errors {
		text += "; " + item.Pointer + " " + item.Detail
	}
	return resp.StatusCode, fmt.Errorf("ingest refused it: %s", text)
}
