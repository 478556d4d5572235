package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countinghouse/countinghouse/internal/client"
	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/problem"
)

// deadLetter is one row of GET /dead-letters.
type deadLetter struct {
	position
	Source     string `json:"source"`
	ID         string `json:"id"`
	Type       string `json:"type"`
	Account    string `json:"account"`
	Reason     string `json:"reason"`
	Detail     string `json:"detail"`
	RecordedAt string `json:"recorded_at"`
	Bytes      int    `json:"bytes"`
	Raw        []byte `json:"raw,omitempty"`
}

func (t *tool) dlq() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "dlq",
		Short: "List, show and replay dead letters: events that are in the log but count nowhere",
	})
	cmd.AddCommand(t.dlqList(), t.dlqShow(), t.dlqReplay())
	return cmd
}

func (t *tool) dlqList() *cobra.Command {
	var reason, source, id, from, to string
	var limit int
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List dead letters, the newest first",
		Example: `  countinghouse dlq ls
  countinghouse dlq ls --reason conflict --limit 1000 -o csv`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return usageError("--limit %d is not positive", limit)
			}
			if _, err := t.format(); err != nil {
				return err
			}
			c, err := t.reader()
			if err != nil {
				return err
			}
			query := url.Values{}
			for name, v := range map[string]string{"reason": reason, "source": source, "id": id, "from": from, "to": to} {
				if v != "" {
					query.Set(name, v)
				}
			}
			letters, more, err := listDeadLetters(cmd.Context(), c, query, limit)
			if err != nil {
				return err
			}
			rows := listing.Rows{Columns: []string{"position", "recorded_at", "reason", "type", "source", "id", "account", "bytes", "detail"}, Numbers: []string{"bytes"}}
			for _, d := range letters {
				rows.Add(d.position.String(), d.RecordedAt, d.Reason, d.Type, d.Source, d.ID, d.Account, strconv.Itoa(d.Bytes), d.Detail)
			}
			if err := t.print(&rows); err != nil {
				return err
			}
			if more {
				fmt.Fprintf(t.err, "countinghouse: there are more; pass a higher --limit, or narrow with --from, --to, --reason\n")
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&reason, "reason", "", "only this reason")
	fs.StringVar(&source, "source", "", "only this CloudEvents source")
	fs.StringVar(&id, "id", "", "only this CloudEvents id")
	fs.StringVar(&from, "from", "", "recorded at or after, RFC 3339")
	fs.StringVar(&to, "to", "", "recorded before, RFC 3339")
	fs.IntVar(&limit, "limit", 100, "most rows")
	return t.listingFlag(t.clientFlags(cmd))
}

const pageMax = 1000

func listDeadLetters(ctx context.Context, c *client.Client, query url.Values, limit int) (all []deadLetter, more bool, err error) {
	for {
		query.Set("limit", strconv.Itoa(min(limit-len(all), pageMax)))
		var page struct {
			Rows []deadLetter `json:"rows"`
			Next string       `json:"next"`
		}
		if err := c.Get(ctx, "/dead-letters", query, &page); err != nil {
			return nil, false, err
		}
		all = append(all, page.Rows...)
		if page.Next == "" || len(page.Rows) == 0 || len(all) >= limit {
			return all, page.Next != "", nil
		}
		query.Set("cursor", page.Next)
	}
}

// reader is a client of the reporter.
func (t *tool) reader() (*client.Client, error) {
	e, err := t.where.endpoints(needReporter)
	if err != nil {
		return nil, err
	}
	return t.client(e)
}

func (t *tool) dlqShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show POSITION",
		Short:   "Show one dead letter with its bytes as received",
		Example: `  countinghouse dlq show 0:4711:3`,
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			format, err := t.format()
			if err != nil {
				return err
			}
			c, err := t.reader()
			if err != nil {
				return err
			}
			d, err := getDeadLetter(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if format == listing.JSON {
				return listing.Document(t.out, d)
			}
			rows := listing.Rows{Columns: []string{"field", "value"}}
			for _, f := range [][2]string{
				{"position", d.position.String()}, {"recorded_at", d.RecordedAt}, {"reason", d.Reason}, {"detail", d.Detail}, {"type", d.Type},
				{"source", d.Source}, {"id", d.ID}, {"account", d.Account}, {"raw", strings.ToValidUTF8(string(d.Raw), "\uFFFD")},
			} {
				rows.Add(f[0], f[1])
			}
			return rows.Print(t.out, format)
		},
	}
	return t.listingFlag(t.clientFlags(cmd))
}

func getDeadLetter(ctx context.Context, c *client.Client, position string) (deadLetter, error) {
	var d deadLetter
	parts := strings.Split(position, ":")
	if len(parts) != 3 {
		return d, usageError("position %q is not shard:seq:index, as `dlq ls` prints it", position)
	}
	for _, p := range parts {
		if _, err := strconv.ParseUint(p, 10, 64); err != nil {
			return d, usageError("position %q is not shard:seq:index, as `dlq ls` prints it", position)
		}
	}
	err := c.Get(ctx, "/dead-letters/"+strings.Join(parts, "/"), nil, &d)
	return d, err
}

func (t *tool) dlqReplay() *cobra.Command {
	var set map[string]string
	cmd := &cobra.Command{
		Use:   "replay POSITION...",
		Short: "Send a dead letter again, mended where needed",
		Long: `Sends the bytes of a dead letter through ingest again and says where they are in the log now. The old
dead letter stays: the log never changes. --set mends a member first, by its path in the event.

A quarantined event never took its identity, so it may keep its id. A conflict did lose it to another
event: give it a new one with --set id=….`,
		Example: `  countinghouse dlq replay 0:4711:3
  countinghouse dlq replay 0:4711:3 --set id=order-77-corrected --set data.quantity=12.5`,
		Args: arguments(1, anyNumber),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(set) > 0 && len(args) > 1 {
				return usageError("--set is for one dead letter at a time")
			}
			return t.replay(cmd.Context(), args, set)
		},
	}
	cmd.Flags().StringToStringVar(&set, "set", nil, "path=value, repeatable: id=…, time=…, data.quantity=…")
	return t.listingFlag(t.clientFlags(cmd))
}

func (t *tool) replay(ctx context.Context, positions []string, set map[string]string) error {
	if _, err := t.format(); err != nil {
		return err
	}
	e, err := t.where.endpoints(needIngest, needReporter)
	if err != nil {
		return err
	}
	c, err := t.client(e)
	if err != nil {
		return err
	}
	rows := listing.Rows{Columns: []string{"position", "id", "result", "new_position"}}
	for _, position := range positions {
		d, err := getDeadLetter(ctx, c, position)
		if err != nil {
			return err
		}
		raw, err := unpacked(ctx, c, &d)
		if err != nil {
			return fmt.Errorf("replay %s: %w", position, err)
		}
		doc, source, id, err := mend(raw, set)
		if err != nil {
			return fmt.Errorf("replay %s: %w", position, err)
		}
		if d.Reason == "conflict" && set["id"] == "" {
			return usageError("%s lost its id to another event; give it a new one with --set id=…", position)
		}
		if strings.HasPrefix(d.Reason, directory.RulePrefix) && set["id"] == "" {
			return usageError("%s is stored and takes effect by itself once it breaks no rule; to say something else, give it a new id with --set id=…", position)
		}
		old, err := traceOf(ctx, c, source, id)
		if err != nil {
			return fmt.Errorf("replay %s: %w", position, err)
		}
		if _, err := c.Replay(ctx, position, doc); err != nil {
			return fmt.Errorf("replay %s: %w", position, err)
		}
		status, at, err := awaitDelivery(ctx, c, source, id, old.positions())
		if err != nil {
			return fmt.Errorf("replayed %s: %w", position, err)
		}
		rows.Add(position, id, status, at)
	}
	return t.print(&rows)
}

// mend applies --set to an event and returns it with its identity.
func mend(raw []byte, set map[string]string) (doc []byte, source, id string, err error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // numbers keep every digit
	var event map[string]any
	if err := dec.Decode(&event); err != nil {
		return nil, "", "", errors.New("the dead letter is no JSON event and cannot be sent through ingest; see it with `dlq show`")
	}
	for _, path := range sortedKeys(set) {
		if err := assign(event, strings.Split(path, "."), set[path]); err != nil {
			return nil, "", "", usageError("--set %s: %w", path, err)
		}
	}
	source, _ = event["source"].(string)
	id, _ = event["id"].(string)
	doc, err = json.Marshal(event)
	return doc, source, id, err
}

// assign keeps the kind of the old value: text stays text, everything else becomes JSON if it is any.
func assign(object map[string]any, path []string, text string) error {
	for _, name := range path[:len(path)-1] {
		inner, ok := object[name].(map[string]any)
		if !ok {
			return fmt.Errorf("%s is no object", name)
		}
		object = inner
	}
	name := path[len(path)-1]
	_, wasText := object[name].(string)
	_, had := object[name]
	if wasText || (!had && len(path) == 1) || !json.Valid([]byte(text)) {
		object[name] = text
		return nil
	}
	object[name] = json.RawMessage(text)
	return nil
}

const statusWait = time.Minute // seconds, where nothing else runs

// trace is the part of GET /events?source=&id= that a replay needs.
type trace struct {
	Deliveries []struct {
		Result   string   `json:"result"`
		Position position `json:"position"`
	} `json:"deliveries"`
}

// position is a place in the log.
type position struct {
	Shard int    `json:"shard"`
	Seq   uint64 `json:"seq"`
	Idx   int    `json:"idx"`
}

func (p position) String() string { return fmt.Sprintf("%d:%d:%d", p.Shard, p.Seq, p.Idx) }

func traceOf(ctx context.Context, c *client.Client, source, id string) (trace, error) {
	var answer trace
	err := c.Get(ctx, "/events", url.Values{"source": {source}, "id": {id}}, &answer)
	var p *problem.Problem
	if errors.As(err, &p) && p.Status == http.StatusNotFound {
		return answer, nil // never seen: no deliveries
	}
	return answer, err
}

// positions are those of all deliveries so far.
func (a *trace) positions() map[string]bool {
	seen := map[string]bool{}
	for _, d := range a.Deliveries {
		seen[d.Position.String()] = true
	}
	return seen
}

// awaitDelivery waits for a delivery at a position not seen before, and says what became of it.
func awaitDelivery(ctx context.Context, c *client.Client, source, id string, seen map[string]bool) (result, position string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, statusWait, errors.New("it is in the log, but not in the warehouse after a minute; see `events status`"))
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		answer, err := traceOf(ctx, c, source, id)
		if err != nil {
			return "", "", err
		}
		for _, d := range answer.Deliveries {
			if at := d.Position.String(); !seen[at] {
				return d.Result, at, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", "", context.Cause(ctx)
		}
	}
}
