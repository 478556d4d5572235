package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// monthVersion is a closed version, as GET /months/{month} lists it.
type monthVersion struct {
	Version     int    `json:"version"`
	ClosedAt    string `json:"closed_at"`
	AsOf        string `json:"as_of"`
	Rows        int    `json:"rows"`
	Adjustments int    `json:"adjustments"`
	SHA256      string `json:"sha256"`
	ClosedBy    string `json:"closed_by"`
	Reason      string `json:"reason"`
}

// monthCheck is a line of the checklist.
type monthCheck struct{ Check, Status, Detail string }

// monthState is the answer of GET /months/{month}.
type monthState struct {
	Month     string         `json:"month"`
	State     string         `json:"state"`
	Version   int            `json:"version"`
	Events    int64          `json:"events"`
	Versions  []monthVersion `json:"versions"`
	Checklist []monthCheck   `json:"checklist"`
}

func (t *tool) month() *cobra.Command {
	cmd := group(&cobra.Command{Use: "month", Short: "List, show, close and compare months"})
	cmd.AddCommand(t.monthList(), t.monthShow(), t.monthClose(), t.monthDiff(), t.monthAdjustments())
	return cmd
}

// oneMonth checks the argument before anybody is asked.
func oneMonth(cmd *cobra.Command, args []string) error {
	if err := arguments(1, 1)(cmd, args); err != nil {
		return err
	}
	if _, err := usage.ParseMonth(args[0]); err != nil {
		return fmt.Errorf("%q is no month: want YYYY-MM", args[0])
	}
	return nil
}

func (t *tool) monthList() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ls",
		Short:   "List the months with usage and their states, the newest first",
		Example: `  countinghouse month ls`,
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := t.format(); err != nil {
				return err
			}
			c, err := t.reader()
			if err != nil {
				return err
			}
			var answer struct {
				Rows []struct {
					Month, State, SHA256 string
					Version              int
					Events               int64
					ClosedAt             *string `json:"closed_at"`
					AsOf                 *string `json:"as_of"`
				}
			}
			if err := c.Get(cmd.Context(), "/months", nil, &answer); err != nil {
				return err
			}
			rows := listing.Rows{Columns: []string{"month", "state", "version", "events", "closed_at", "as_of", "sha256"}, Numbers: []string{"version", "events"}}
			for _, m := range answer.Rows {
				rows.Add(m.Month, m.State, strconv.Itoa(m.Version), strconv.FormatInt(m.Events, 10), textOf(m.ClosedAt), textOf(m.AsOf), m.SHA256)
			}
			return t.print(&rows)
		},
	}
	return t.listingFlag(t.clientFlags(cmd))
}

func textOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func (t *tool) monthShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show MONTH",
		Short: "Show a month: its versions, and what blocks its close",
		Long: `Shows a month's state and its closed versions, and for a month that is not closed the checklist: what
blocks the close, and what its closer should know. As CSV it is the versions.`,
		Example: `  countinghouse month show {last}`,
		Args:    oneMonth,
		RunE: func(cmd *cobra.Command, args []string) error {
			format, err := t.format()
			if err != nil {
				return err
			}
			c, err := t.reader()
			if err != nil {
				return err
			}
			text, err := c.GetAs(cmd.Context(), "/months/"+args[0], nil, "application/json")
			if err != nil {
				return err
			}
			if format == listing.JSON {
				return listing.Document(t.out, json.RawMessage(text))
			}
			var m monthState
			if err := json.Unmarshal(text, &m); err != nil {
				return fmt.Errorf("read month: %w", err)
			}
			return t.showMonth(format, &m)
		},
	}
	return t.listingFlag(t.clientFlags(cmd))
}

func (t *tool) showMonth(format listing.Format, m *monthState) error {
	versions := listing.Rows{
		Columns: []string{"version", "closed_at", "as_of", "rows", "adjustments", "closed_by", "reason", "sha256"}, Numbers: []string{"version", "rows", "adjustments"},
	}
	for _, v := range m.Versions {
		versions.Add(strconv.Itoa(v.Version), v.ClosedAt, v.AsOf, strconv.Itoa(v.Rows), strconv.Itoa(v.Adjustments), v.ClosedBy, v.Reason, v.SHA256)
	}
	if format == listing.CSV {
		return versions.Print(t.out, format)
	}
	fmt.Fprintf(t.out, "%s is %s, %d events\n\n", m.Month, m.State, m.Events)
	if len(m.Versions) > 0 {
		return versions.Print(t.out, format)
	}
	t.printChecklist(m.Checklist)
	return nil
}

// printChecklist is for people: one line a check, what blocks marked.
func (t *tool) printChecklist(checks []monthCheck) {
	for _, c := range checks {
		fmt.Fprintf(t.out, "%-5s  %-19s  %s\n", strings.ToUpper(c.Status), c.Check, c.Detail)
	}
}

func (t *tool) monthClose() *cobra.Command {
	var asOf, reason string
	var accept bool
	cmd := &cobra.Command{
		Use:   "close MONTH",
		Short: "Close a month, or state a closed one anew",
		Long: `Closes a month: its aggregates are computed once, stored under version 1 with their SHA-256, and never
change. Exits 1 with the checklist if the month may not be closed. A month that is closed gets a new
version if something became known since that changes it; else the answer is the version it has.

Needs a key with the scope months:close.`,
		Example: `  countinghouse month close {last}
  countinghouse month close {last} --as-of {this}-01T00:00:00Z
  countinghouse month close {last} --accept-gaps --reason "probe A-4 was down; agreed with the customer"`,
		Args: oneMonth,
		RunE: func(cmd *cobra.Command, args []string) error {
			format, err := t.format()
			if err != nil {
				return err
			}
			if accept != (reason != "") {
				return usageError("--accept-gaps and --reason go together")
			}
			c, err := t.reader()
			if err != nil {
				return err
			}
			var made struct {
				Month       string            `json:"month"`
				State       string            `json:"state"`
				Version     int               `json:"version"`
				ClosedAt    string            `json:"closed_at"`
				AsOf        string            `json:"as_of"`
				Positions   map[string]uint64 `json:"positions"`
				Rows        int               `json:"rows"`
				SHA256      string            `json:"sha256"`
				Adjustments int               `json:"adjustments"`
			}
			body := map[string]any{}
			if asOf != "" {
				body["as_of"] = asOf
			}
			if accept {
				body["accept_gaps"], body["reason"] = true, reason
			}
			err = c.Call(cmd.Context(), http.MethodPost, "/months/"+args[0]+"/close", body, &made)
			var refused *problem.Problem
			if errors.As(err, &refused) && refused.Code == "close-refused" {
				return t.closeRefused(cmd, format, args[0], refused)
			}
			if err != nil {
				return err
			}
			if format == listing.JSON {
				return listing.Document(t.out, made)
			}
			rows := listing.Rows{
				Columns: []string{"month", "state", "version", "closed_at", "as_of", "rows", "adjustments", "sha256"}, Numbers: []string{"version", "rows", "adjustments"},
			}
			rows.Add(made.Month, made.State, strconv.Itoa(made.Version), made.ClosedAt, made.AsOf, strconv.Itoa(made.Rows), strconv.Itoa(made.Adjustments), made.SHA256)
			return rows.Print(t.out, format)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&asOf, "as-of", "", "only what was recorded at or before, RFC 3339 (default: all that is counted)")
	fs.BoolVar(&accept, "accept-gaps", false, "close in spite of an open declared gap; needs --reason")
	fs.StringVar(&reason, "reason", "", "why the gap is accepted; kept with the version")
	return t.listingFlag(t.clientFlags(cmd))
}

// closeRefused prints why, and exits 1: as JSON the problem, else the checklist.
func (t *tool) closeRefused(cmd *cobra.Command, format listing.Format, month string, refused *problem.Problem) error {
	if format == listing.JSON {
		if err := listing.Document(t.out, refused); err != nil {
			return err
		}
		return no()
	}
	checks := make([]monthCheck, 0, len(refused.Errors))
	for _, e := range refused.Errors {
		checks = append(checks, monthCheck{e.Parameter, "block", e.Detail})
	}
	if format == listing.CSV {
		rows := listing.Rows{Columns: []string{"check", "status", "detail"}}
		for _, c := range checks {
			rows.Add(c.Check, c.Status, c.Detail)
		}
		if err := rows.Print(t.out, format); err != nil {
			return err
		}
		return no()
	}
	// The whole checklist says more than the reasons, if it can be had.
	var m monthState
	if c, err := t.reader(); err == nil && c.Get(cmd.Context(), "/months/"+month, nil, &m) == nil && len(m.Checklist) > 0 {
		checks = m.Checklist
	}
	fmt.Fprintf(t.out, "%s may not be closed\n\n", month)
	t.printChecklist(checks)
	return no()
}

func (t *tool) monthDiff() *cobra.Command {
	var from, to int
	cmd := &cobra.Command{
		Use:   "diff MONTH",
		Short: "Compare two versions of a month, down to the events",
		Long: `Compares two versions of a closed month: the figures that differ, and the events that the later version
has and the earlier one has not. As CSV it is the figures.`,
		Example: `  countinghouse month diff {before}
  countinghouse month diff {before} --from 1 --to 2 -o csv`,
		Args: oneMonth,
		RunE: func(cmd *cobra.Command, args []string) error {
			format, err := t.format()
			if err != nil {
				return err
			}
			c, err := t.reader()
			if err != nil {
				return err
			}
			query := url.Values{}
			for name, n := range map[string]int{"from": from, "to": to} {
				if n < 0 {
					return usageError("--%s %d is no version", name, n)
				}
				if n > 0 {
					query.Set(name, strconv.Itoa(n))
				}
			}
			text, err := c.GetAs(cmd.Context(), "/months/"+args[0]+"/diff", query, "application/json")
			if err != nil {
				return err
			}
			if format == listing.JSON {
				return listing.Document(t.out, json.RawMessage(text))
			}
			return t.showDiff(format, text)
		},
	}
	cmd.Flags().IntVar(&from, "from", 0, "version (default: the one before --to)")
	cmd.Flags().IntVar(&to, "to", 0, "version (default: the newest)")
	return t.listingFlag(t.clientFlags(cmd))
}
