package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countinghouse/countinghouse/internal/client"
	"github.com/countinghouse/countinghouse/internal/listing"
)

// explained is the answer of GET /explain.
type explained struct {
	Report    string             `json:"report"`
	Key       map[string]string  `json:"key"`
	Measure   string             `json:"measure"`
	Number    string             `json:"number"`
	Evidence  string             `json:"evidence"`
	Explained bool               `json:"explained"`
	How       string             `json:"how"`
	Version   int                `json:"version"`
	AsOf      string             `json:"as_of"`
	Since     string             `json:"from_as_of,omitempty"`
	Positions map[string]uint64  `json:"positions"`
	Versions  []explainedVersion `json:"versions"`
	Rollup    []map[string]any   `json:"rollup"`
	Cells     int64              `json:"rollup_cells"`
	Total     int64              `json:"events_total"`
	Events    []explainedEvent   `json:"events"`
	Late      []explainedLate    `json:"late,omitempty"`
	Tiers     []explainedTier    `json:"tiers,omitempty"`
	Next      *string            `json:"next"`
}

type explainedVersion struct {
	Version int    `json:"version"`
	AsOf    string `json:"as_of"`
	SHA256  string `json:"sha256"`
	Number  string `json:"number"`
}

type explainedEvent struct {
	Source     string `json:"source"`
	ID         string `json:"id"`
	Type       string `json:"type"`
	Account    string `json:"account"`
	At         string `json:"at"`
	RecordedAt string `json:"recorded_at"`
	Quantity   string `json:"quantity"`
	Sign       int    `json:"sign"`
	Counts     string `json:"counts"`
	Status     string `json:"status"`
	About      string `json:"about,omitempty"`
	Shard      uint16 `json:"shard"`
	Seq        uint64 `json:"seq"`
	Idx        uint32 `json:"idx"`
}

type explainedTier struct {
	From      string `json:"from"`
	Units     string `json:"units"`
	UnitPrice string `json:"unit_price"`
	Cost      string `json:"cost"`
}

type explainedLate struct {
	Source, ID, Type, Account, At string
	RecordedAt                    string `json:"recorded_at"`
	Sign                          int
	Shard                         uint16
	Seq                           uint64
	Idx                           uint32
}

// explainFlags are the parameters of GET /explain that tell a number apart, in the order of the help.
func explainFlags() [][2]string {
	return [][2]string{
		{"report", "report of the number (default: month-usage)"},
		{"month", "month of the number, YYYY-MM; of adjustments the usage month"},
		{"account", "the row's account"},
		{"meter", "the row's meter"},
		{"plan", "the row's plan; --plan '' is none, left out is any"},
		{"region", "the row's region"},
		{"platform", "the row's platform"},
		{"trial", "true or false"},
		{"measure", "the number's column: quantity, events, quantity_tree, events_tree; registered, token, activity (also with _own); USED, METER_QUANTITY, METER_COST, ITEM_QUANTITY; or the column's name"},
		{"tenant", "of the reports of tenants and of assets: the row's tenant"},
		{"organization", "of asset-monthly-costs and asset-adjustments"},
		{"asset", "of asset-usage-detail: assetId"},
		{"day", "of asset-usage-detail: YYYY-MM-DD"},
		{"processing-month", "of adjustments: the row's, YYYY-MM"},
		{"figure", "of adjustments: the row's measure, such as quantity or token"},
		{"partner", "of subscriptions, transactions and certificate-usage"},
		{"customer", "of subscriptions and transactions; of certificate-usage the row's Customer ID"},
		{"subscription", "of subscriptions: Subscription ID"},
		{"transaction", "of transactions: Transaction ID"},
		{"type", "of certificate-usage: Certificate Type; left out is the customer as a whole"},
		{"product", "of certificate-usage: Product; left out is the type as a whole"},
		{"usage-type", "of tenant-usage-api"},
		{"aggregation", "of tenant-usage-api"},
		{"start", "of tenant-usage-api: startTime, or its day as YYYY-MM-DD"},
		{"from", "of the reports of tenants and transactions: first day"},
		{"to", "of the reports of tenants and transactions: last day"},
		{"period", "of tenant-usage, instead of --from and --to"},
		{"activation", "of elastic-usage: ACTIVATION_ID"},
		{"correlation", "of elastic-usage: CORRELATION_ID"},
		{"item", "of elastic-usage: ITEM"},
		{"as-of", "only what was recorded at or before, RFC 3339"},
		{"version", "a version of the closed month"},
		{"from-version", "explain what changed since this version"},
		{"to-version", "up to this one (default: the newest)"},
		{"from-as-of", "explain what changed since what was known at this instant, RFC 3339, up to --as-of"},
	}
}

// explainTable is how many events a table shows unless told otherwise, and explainPage how many are asked for at a time.
const (
	explainTable = 20
	explainPage  = 1000
)

func (t *tool) explain() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Prove a number of a report by the events behind it",
		Long: `Explains one number of a report: what it says, what closed versions say, the rollup behind it, and every
event behind it with its position in the log. The number is computed a second time from these events; if the
two differ, the exit code is 1.

As table it shows the first events; as CSV it is all of them; as JSON everything.`,
		Example: `  countinghouse explain --month {last} --account acme --meter api_calls
  countinghouse explain --report sta-usage --month {last} --account northwind --plan "STA Premium" --measure activity
  countinghouse explain --report elastic-usage --activation ACT-acme-1
  countinghouse explain --month {before} --account initech --meter tokens --from-version 1 --to-version 2
  countinghouse explain --report tenant-usage --account northwind --tenant acme --period last_month --measure "Users Remaining"
  countinghouse explain --report certificate-usage --partner keystone --customer sigma --measure Available
  countinghouse explain --report tenant-usage-api --tenant acme --usage-type USERS --aggregation DAILY --from {last}-01 --to {last}-28 --start {last}-04
  countinghouse explain --report asset-adjustments --organization alpine-org --processing-month {last} --month {before} --measure cost_delta`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			format, err := t.format()
			if err != nil {
				return err
			}
			if limit < 0 {
				return usageError("--limit %d: want 0 or more", limit)
			}
			query := url.Values{}
			for _, f := range explainFlags() {
				if flag := cmd.Flags().Lookup(f[0]); flag.Changed {
					query.Set(strings.ReplaceAll(f[0], "-", "_"), flag.Value.String())
				}
			}
			c, err := t.reader()
			if err != nil {
				return err
			}
			if limit == 0 && format == listing.Table {
				limit = explainTable
			}
			e, err := readExplained(cmd.Context(), c, query, limit)
			if err != nil {
				return err
			}
			if err := t.printExplained(format, e); err != nil {
				return err
			}
			if !e.Explained {
				return no()
			}
			return nil
		},
	}
	for _, f := range explainFlags() {
		cmd.Flags().String(f[0], "", f[1])
	}
	cmd.Flags().IntVar(&limit, "limit", 0, "events to list (default: 20 in a table, else all)")
	return t.listingFlag(t.clientFlags(cmd))
}

// readExplained reads the explanation with so many of its events, 0 for all.
func readExplained(ctx context.Context, c *client.Client, query url.Values, limit int) (*explained, error) {
	var whole *explained
	for {
		page := explainPage
		if limit > 0 {
			page = limit
			if whole != nil {
				page -= len(whole.Events)
			}
			page = min(page, explainPage)
		}
		query.Set("limit", strconv.Itoa(page))
		var e explained
		if err := c.Get(ctx, "/explain", query, &e); err != nil {
			return nil, err
		}
		if whole == nil {
			whole = &e
		} else {
			whole.Events, whole.Next = append(whole.Events, e.Events...), e.Next
		}
		if e.Next == nil || limit > 0 && len(whole.Events) >= limit {
			return whole, nil
		}
		query.Set("cursor", *e.Next)
	}
}

func (t *tool) printExplained(format listing.Format, e *explained) error {
	if format == listing.JSON {
		return listing.Document(t.out, e)
	}
	rows := listing.Rows{Columns: []string{"at", "source", "id", "type", "account", "about", "quantity", "counts", "status", "recorded_at", "position"}, Numbers: []string{}}
	for i := range e.Events {
		v := &e.Events[i]
		status := v.Status
		if v.Sign < 0 {
			status = "void of it"
		}
		rows.Add(v.At, v.Source, v.ID, v.Type, v.Account, v.About, v.Quantity, v.Counts, status, v.RecordedAt, fmt.Sprintf("%d:%d:%d", v.Shard, v.Seq, v.Idx))
	}
	if format == listing.CSV {
		return rows.Print(t.out, format)
	}
	t.printNumber(e)
	if len(e.Events) > 0 {
		fmt.Fprintln(t.out)
		if err := rows.Print(t.out, format); err != nil {
			return err
		}
	}
	if more := e.Total - int64(len(e.Events)); more > 0 {
		fmt.Fprintf(t.out, "\n%d more: --limit %d shows them, -o csv writes all\n", more, e.Total)
	}
	if len(e.Late) > 0 {
		fmt.Fprintf(t.out, "\nrecorded between the versions:\n")
		for _, l := range e.Late {
			fmt.Fprintf(t.out, "  %s  %s  %s %s  %s  sign %d  %d:%d:%d\n", l.RecordedAt, l.Type, l.Source, l.ID, l.Account, l.Sign, l.Shard, l.Seq, l.Idx)
		}
	}
	return nil
}

// printNumber says what the number is and whether the events make it.
func (t *tool) printNumber(e *explained) {
	var key []string
	for _, f := range explainFlags() {
		if value, ok := e.Key[strings.ReplaceAll(f[0], "-", "_")]; ok && f[0] != "measure" {
			if value == "" {
				value = "''"
			}
			key = append(key, f[0]+" "+value)
		}
	}
	number := func(s string) string {
		if s == "" {
			return "(blank)"
		}
		return s
	}
	fmt.Fprintf(t.out, "%s of %s, %s: %s\n", e.Measure, e.Report, strings.Join(key, ", "), number(e.Number))
	verdict := "explained"
	if !e.Explained {
		verdict = "NOT EXPLAINED"
	}
	fmt.Fprintf(t.out, "%s\n%s: computed again from %d rows of events: %s\n", e.How, verdict, e.Total, number(e.Evidence))
	state := "as of " + e.AsOf
	if e.Version > 0 {
		state = fmt.Sprintf("version %d, %s", e.Version, state)
	}
	if e.Since != "" {
		state = "from " + e.Since + " to " + e.AsOf
	}
	for _, tier := range e.Tiers {
		fmt.Fprintf(t.out, "tier above %s: %s units at %s: %s\n", tier.From, tier.Units, tier.UnitPrice, tier.Cost)
	}
	fmt.Fprintf(t.out, "state of the log: %s\n", state)
	for _, v := range e.Versions {
		fmt.Fprintf(t.out, "closed version %d, as of %s: %s\n", v.Version, v.AsOf, number(v.Number))
	}
	if e.Cells > 0 {
		fmt.Fprintf(t.out, "rollup: %d hourly cells (-o json shows the first %d)\n", e.Cells, len(e.Rollup))
	}
}
