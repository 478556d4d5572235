package main

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/countinghouse/countinghouse/internal/listing"
)

// monthDifference is the answer of GET /months/{month}/diff.
type monthDifference struct {
	Month string
	From  monthVersion
	To    monthVersion
	Rows  []struct {
		Account, Plan, Meter, Region, Platform, Measure string
		Trial                                           bool
		Old, New, Delta                                 string
		OldCost                                         string `json:"old_cost"`
		NewCost                                         string `json:"new_cost"`
		CostDelta                                       string `json:"cost_delta"`
	}
	Events []struct {
		position
		Source, ID, Type, Account, At, Meter, Quantity string
		RecordedAt                                     string `json:"recorded_at"`
		Sign                                           int
	}
}

func (t *tool) showDiff(format listing.Format, text []byte) error {
	var d monthDifference
	if err := json.Unmarshal(text, &d); err != nil {
		return fmt.Errorf("read the comparison: %w", err)
	}
	rows := listing.Rows{
		Columns: []string{"account", "plan", "meter", "region", "platform", "trial", "measure", "old", "new", "delta", "old_cost", "new_cost", "cost_delta"},
		Numbers: []string{"old", "new", "delta", "old_cost", "new_cost", "cost_delta"},
	}
	for _, r := range d.Rows {
		rows.Add(r.Account, r.Plan, r.Meter, r.Region, r.Platform, strconv.FormatBool(r.Trial), r.Measure, r.Old, r.New, r.Delta, r.OldCost, r.NewCost, r.CostDelta)
	}
	if format == listing.CSV {
		return rows.Print(t.out, format)
	}
	fmt.Fprintf(t.out, "%s, version %d (as of %s) and version %d (as of %s)\n\n", d.Month, d.From.Version, d.From.AsOf, d.To.Version, d.To.AsOf)
	if err := rows.Print(t.out, format); err != nil {
		return err
	}
	fmt.Fprintln(t.out)
	events := listing.Rows{Columns: []string{"position", "recorded_at", "at", "type", "source", "id", "account", "meter", "quantity", "voided"}, Numbers: []string{"quantity"}}
	for _, e := range d.Events {
		events.Add(e.position.String(), e.RecordedAt, e.At, e.Type, e.Source, e.ID, e.Account, e.Meter, e.Quantity, strconv.FormatBool(e.Sign < 0))
	}
	return events.Print(t.out, format)
}

func (t *tool) monthAdjustments() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "adjustments MONTH",
		Short:   "List what later versions of a month changed",
		Example: `  countinghouse month adjustments {before} -o csv`,
		Args:    oneMonth,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := t.format(); err != nil {
				return err
			}
			c, err := t.reader()
			if err != nil {
				return err
			}
			var answer struct {
				Rows []struct {
					ProcessingMonth string `json:"processing_month"`
					UsageMonth      string `json:"usage_month"`
					Type            string
					Account         string
					Plan            string
					Meter           string
					Region          string
					Platform        string
					Trial           bool
					Measure         string
					FromVersion     int `json:"from_version"`
					ToVersion       int `json:"to_version"`
					Delta           string
					CostDelta       string `json:"cost_delta"`
				}
			}
			if err := c.Get(cmd.Context(), "/months/"+args[0]+"/adjustments", nil, &answer); err != nil {
				return err
			}
			rows := listing.Rows{
				Columns: []string{"processing_month", "usage_month", "type", "account", "plan", "meter", "region", "platform", "trial", "measure", "from_version", "to_version", "delta", "cost_delta"},
				Numbers: []string{"from_version", "to_version", "delta", "cost_delta"},
			}
			for _, r := range answer.Rows {
				rows.Add(r.ProcessingMonth, r.UsageMonth, r.Type, r.Account, r.Plan, r.Meter, r.Region, r.Platform, strconv.FormatBool(r.Trial), r.Measure,
					strconv.Itoa(r.FromVersion), strconv.Itoa(r.ToVersion), r.Delta, r.CostDelta)
			}
			return t.print(&rows)
		},
	}
	return t.listingFlag(t.clientFlags(cmd))
}
