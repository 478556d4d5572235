package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/countinghouse/countinghouse/internal/client"
	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/usage"
)

func (t *tool) events() *cobra.Command {
	cmd := group(&cobra.Command{Use: "events", Short: "Send, import, watch and look up events"})
	cmd.AddCommand(t.eventsSend(), t.eventsImport(), t.eventsTail(), t.eventsStatus())
	return cmd
}

// sendFlags build one usage.metered event.
type sendFlags struct {
	meter, quantity, account, at, start, end, unit, region, plan string
	source, id, typ, data                                        string
	dimensions                                                   map[string]string
	partial                                                      bool
}

func (t *tool) eventsSend() *cobra.Command {
	var f sendFlags
	cmd := &cobra.Command{
		Use:   "send [FILE]",
		Short: "Send one event given by flags, or CloudEvents from a file or standard input",
		Long: `Sends one usage.metered event given by flags, or CloudEvents as JSON: one object, an array, or one
object a line, from FILE or standard input ("-").

It returns when the events are in the log on disk. While ingest is busy or restarting it sends the same
bytes again, which never counts anything twice.`,
		Example: `  countinghouse events send --meter tokens --account acme --quantity 1250
  countinghouse events send --meter api_calls --account acme --quantity 1 --id req-7f3a --dimension route=/v1/users
  countinghouse events send --type account.created --account acme --data '{"name":"Acme","kind":"customer"}'
  countinghouse events send events.ndjson
  generate-usage | countinghouse events send -`,
		Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return t.send(cmd, args, &f) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.meter, "meter", "", "meter that counts")
	fs.StringVar(&f.quantity, "quantity", "1", "exact decimal quantity")
	fs.StringVar(&f.account, "account", "", "account the event is about (CloudEvents subject)")
	fs.StringVar(&f.at, "time", "", "when it happened, RFC 3339 with offset (default: when it is received)")
	fs.StringVar(&f.start, "start", "", "start of the usage, with --end")
	fs.StringVar(&f.end, "end", "", "end of the usage")
	fs.StringVar(&f.unit, "unit", "", "unit of the quantity")
	fs.StringVar(&f.region, "region", "", "region")
	fs.StringVar(&f.plan, "plan", "", "plan, where the event knows better than the account")
	fs.StringToStringVar(&f.dimensions, "dimension", nil, "key=value, repeatable")
	fs.StringVar(&f.source, "source", "", "CloudEvents source (default cli)")
	fs.StringVar(&f.id, "id", "", "CloudEvents id; the same id is never counted twice (default: a new UUID)")
	fs.StringVar(&f.typ, "type", usage.TypeMetered, "event type; other types take --data")
	fs.StringVar(&f.data, "data", "", "data of the event as JSON, instead of the flags above")
	fs.BoolVar(&f.partial, "partial", false, "take the valid events of a batch although others are refused")
	return t.listingFlag(t.clientFlags(cmd))
}

func (t *tool) send(cmd *cobra.Command, args []string, f *sendFlags) error {
	format, err := t.format()
	if err != nil {
		return err
	}
	body, contentType, err := t.sendBody(cmd, args, f)
	if err != nil {
		return err
	}
	e, err := t.where.endpoints(needIngest)
	if err != nil {
		return err
	}
	c, err := t.client(e)
	if err != nil {
		return err
	}
	r, err := c.Send(cmd.Context(), contentType, body, f.partial)
	if err != nil {
		return err
	}
	if err := t.receipt(format, r); err != nil {
		return err
	}
	if r.Rejected > 0 {
		return no()
	}
	return nil
}

func (t *tool) sendBody(cmd *cobra.Command, args []string, f *sendFlags) (body []byte, contentType string, err error) {
	for _, flag := range []string{"meter", "account", "quantity", "id", "type", "data"} { // an unset variable of a shell, most likely
		if cmd.Flags().Changed(flag) && cmd.Flags().Lookup(flag).Value.String() == "" {
			return nil, "", usageError("--%s is empty: give a value, or leave it out", flag)
		}
	}
	byFlags := f.meter != "" || f.data != ""
	if byFlags && len(args) > 0 {
		return nil, "", usageError("give either flags that make one event or a file, not both")
	}
	if byFlags {
		body, err = f.event()
		return body, "application/cloudevents+json", err
	}
	if len(args) == 0 {
		return nil, "", usageError("nothing to send: pass --meter and --account, or a file, or - for standard input")
	}
	in := cmd.InOrStdin()
	if args[0] != "-" {
		file, err := os.Open(args[0])
		if err != nil {
			return nil, "", usageError("%w", err)
		}
		defer func() { _ = file.Close() }() // read only
		in = file
	}
	const requestMax = 5 << 20 // ingest's limit; larger files go through `events import`
	body, err = io.ReadAll(io.LimitReader(in, requestMax+1))
	if err != nil {
		return nil, "", fmt.Errorf("read events: %w", err)
	}
	if len(body) > requestMax {
		return nil, "", usageError("more than 5 MiB: use `countinghouse events import`, which sends a file in batches")
	}
	return body, contentTypeOf(body), nil
}

// contentTypeOf tells an array from one object and from one object a line.
func contentTypeOf(body []byte) string {
	text := bytes.TrimSpace(body)
	if bytes.HasPrefix(text, []byte("[")) || json.Valid(text) {
		return "application/json"
	}
	return "application/x-ndjson"
}

// event is the CloudEvent that the flags describe.
func (f *sendFlags) event() ([]byte, error) {
	data := json.RawMessage(f.data)
	if f.data == "" {
		d := map[string]any{"meter": f.meter, "quantity": f.quantity}
		for name, v := range map[string]string{"start": f.start, "end": f.end, "unit": f.unit, "region": f.region, "plan": f.plan} {
			if v != "" {
				d[name] = v
			}
		}
		if len(f.dimensions) > 0 {
			d["dimensions"] = f.dimensions
		}
		var err error
		if data, err = json.Marshal(d); err != nil {
			return nil, fmt.Errorf("encode data: %w", err)
		}
	} else if !json.Valid(data) {
		return nil, usageError("--data is not JSON")
	}
	e := map[string]any{
		"specversion": "1.0", "id": f.id, "source": cmp.Or(f.source, "cli"), "type": f.typ, "data": data,
	}
	if f.id == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("make an id: %w", err)
		}
		e["id"] = id.String()
	}
	if f.account != "" {
		e["subject"] = f.account
	}
	if f.at != "" {
		e["time"] = f.at
	}
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return body, nil
}

func (t *tool) receipt(format listing.Format, r client.Receipt) error {
	switch format {
	case listing.JSON:
		return listing.Document(t.out, r)
	case listing.CSV:
		rows := listing.Rows{Columns: []string{"accepted", "rejected", "correlation_id"}, Numbers: []string{"accepted", "rejected"}}
		rows.Add(strconv.Itoa(r.Accepted), strconv.Itoa(r.Rejected), r.CorrelationID)
		return rows.Print(t.out, format)
	}
	fmt.Fprintf(t.out, "accepted %d, rejected %d, correlation id %s\n", r.Accepted, r.Rejected, r.CorrelationID)
	for _, e := range r.Errors {
		at := ""
		if e.Index != nil {
			at = fmt.Sprintf("event %d: ", *e.Index)
		}
		fmt.Fprintf(t.err, "countinghouse: %s%s %s: %s\n", at, e.Pointer, e.Code, e.Detail)
	}
	return nil
}

func (t *tool) eventsStatus() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [SOURCE ID]",
		Short: "Say what became of an event, or how far counting is behind the log",
		Long: `Says what became of an event: stored, a duplicate, in conflict with an earlier one, quarantined and
why, or voided; with its position in the log. Exits 1 if no such event is known.

Without an event: per shard, the newest position of the log, the newest counted one, and the lag.`,
		Example: `  countinghouse events status cli 0198c5e2-3f0e-7d1c-9f0a-2f4f5a6b7c8d
  countinghouse events status`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 0 && len(args) != 2 {
				return fmt.Errorf("want SOURCE and ID of an event, or nothing")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			format, err := t.format()
			if err != nil {
				return err
			}
			e, err := t.where.endpoints(needReporter)
			if err != nil {
				return err
			}
			c, err := t.client(e)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				var fresh struct {
					Rows []map[string]any `json:"rows"`
				}
				if err := c.Get(cmd.Context(), "/freshness", nil, &fresh); err != nil {
					return err
				}
				return freshnessRows(fresh.Rows).Print(t.out, format)
			}
			var answer map[string]any
			if err := c.Get(cmd.Context(), "/events", url.Values{"source": {args[0]}, "id": {args[1]}}, &answer); err != nil {
				return err
			}
			return t.document(format, answer)
		},
	}
	return t.listingFlag(t.clientFlags(cmd))
}

// freshnessRows has the columns in the order in which they are read: the log, what is counted of it, the rest.
func freshnessRows(shards []map[string]any) *listing.Rows {
	numbers := []string{"shard", "log_seq", "warehouse_seq", "lag_events"}
	rows := &listing.Rows{Columns: append(slices.Clone(numbers), "oldest_pending_at", "watermark_at", "seen_at"), Numbers: numbers}
	for _, shard := range shards {
		var cells []string
		for _, column := range rows.Columns {
			cells = append(cells, cell(shard[column]))
		}
		rows.Add(cells...)
	}
	return rows
}

// document prints one JSON object: as it is, or its members as rows.
func (t *tool) document(format listing.Format, doc map[string]any) error {
	if format == listing.JSON {
		return listing.Document(t.out, doc)
	}
	rows := listing.Rows{Columns: []string{"field", "value"}}
	flatten(&rows, "", doc)
	return rows.Print(t.out, format)
}

func flatten(rows *listing.Rows, prefix string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range sortedKeys(v) {
			flatten(rows, strings.TrimPrefix(prefix+"."+key, "."), v[key])
		}
	case []any:
		for i, item := range v {
			flatten(rows, fmt.Sprintf("%s[%d]", prefix, i), item)
		}
	case string:
		rows.Add(prefix, v)
	case nil:
		rows.Add(prefix, "")
	default:
		text, err := json.Marshal(v)
		if err != nil { // it was JSON a moment ago
			text = []byte("?")
		}
		rows.Add(prefix, string(text))
	}
}

func rfc3339(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }
