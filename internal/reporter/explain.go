package reporter

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countinghouse/countinghouse/internal/report"
)

// explainInput has no fields: what is there and what is blank differ, so the query itself is read.
type explainInput struct{}

type explainOutput struct {
	Body explainAnswer
	Next string `header:"X-Next-Cursor" doc:"As next, for CSV"`
}

type explainAnswer struct {
	*report.Explanation
	Next *string `json:"next" doc:"Cursor of the next events; null on the last page"`
}

func (a explainAnswer) columns() []string {
	return []string{"at", "recorded_at", "source", "id", "type", "account", "about", "quantity", "sign", "counts", "status", "shard", "seq", "idx"}
}

func (a explainAnswer) cells(row func(...cell)) {
	for i := range a.Events {
		v := &a.Events[i]
		row(plain(v.At.String()), plain(v.RecordedAt.String()), text(v.Source), text(v.ID), text(v.Type), text(v.Account), text(v.About), plain(v.Quantity),
			whole(int(v.Sign)), plain(v.Counts), plain(v.Status), whole(v.Shard), whole(v.Seq), whole(v.Idx))
	}
}

// ContentType names the character set of CSV.
func (a explainAnswer) ContentType(ct string) string { return tableType(ct) }

// explainKeys are what may tell a number apart, as parameters.
func explainKeys() []*huma.Param {
	return []*huma.Param{
		queryParam("month", "Month of the number, YYYY-MM; of adjustments the usage month. Of month-usage, left out with from and to: a number of /meters/{meter}/usage"),
		queryParam("account", "The row's account, by its id. Of month-usage, left out is all accounts together, which no version has, and empty is usage without an account"),
		queryParam("meter", "Of metered usage: the row's meter"),
		queryParam("plan", "The row's plan; left out is any plan, empty is no plan. So with region, platform and trial"),
		queryParam("region", "The row's region"),
		queryParam("platform", "The row's platform"),
		queryParam("trial", "true or false"),
		queryParam("measure", "The number's column. Of usage: quantity, events, quantity_tree, events_tree; of STA: registered, token, activity, each also with _own; of elastic-usage: USED, METER_QUANTITY, METER_COST, ITEM_QUANTITY, MAPPED_ENTITLED_COUNT; of the others the column's name"),
		queryParam("tenant", "Of the reports of tenants and of assets: the row's tenant, an account"),
		queryParam("organization", "Of asset-monthly-costs and asset-adjustments: as of the report"),
		queryParam("asset", "Of asset-usage-detail: the row's assetId"),
		queryParam("day", "Of asset-usage-detail: the row's day, YYYY-MM-DD"),
		queryParam("processing_month", "Of adjustments: the row's, YYYY-MM; asset-adjustments needs it"),
		queryParam("figure", "Of adjustments: the row's measure, such as quantity or token"),
		queryParam("partner", "Of subscriptions, transactions and certificate-usage: as of the report"),
		queryParam("customer", "Of subscriptions and transactions: as of the report; of certificate-usage the row's Customer ID"),
		queryParam("subscription", "Of subscriptions: the row's Subscription ID"),
		queryParam("transaction", "Of transactions: the row's Transaction ID"),
		queryParam("type", "Of certificate-usage: the row's Certificate Type; left out is the customer as a whole"),
		queryParam("product", "Of certificate-usage: the row's Product; left out is the type as a whole"),
		queryParam("usage_type", "Of tenant-usage-api: as of the report"),
		queryParam("aggregation", "Of tenant-usage-api: as of the report"),
		queryParam("start", "Of tenant-usage-api: the row's startTime, or its day as YYYY-MM-DD"),
		queryParam("from", "Of month-usage without month: the row's start, a full hour, RFC 3339. Of the reports of tenants and transactions: as of the report"),
		queryParam("to", "Of month-usage without month: the row's end, a full hour, RFC 3339, exclusive. Of the reports of tenants and transactions: as of the report"),
		queryParam("period", "Of tenant-usage: as of the report"),
		queryParam("activation", "Of elastic-usage: the row's ACTIVATION_ID"),
		queryParam("correlation", "Of elastic-usage: the row's CORRELATION_ID; left out is the last row of the line item. What was denied has only this"),
		queryParam("item", "Of elastic-usage: the row's ITEM"),
	}
}

func (s *server) registerExplain() {
	which := queryParam("report", "Report of the number; month-usage, the default, is /months/{month}/usage, and month-adjustments /months/{month}/adjustments")
	for _, name := range report.ExplainedReports() {
		which.Schema.Enum = append(which.Schema.Enum, name)
	}
	register(s, endpoint{Operation: huma.Operation{
		OperationID: "explain", Method: http.MethodGet, Path: "/explain", Tags: []string{"reports"}, Summary: "Where a number comes from",
		Description: "The number of one cell of a report, as it is and as closed versions have it; the rollup behind it; and every event behind it, with its place in the log. " +
			"It is computed a second time from these events: explained says that both are equal to the last digit. With from_version and to_version: the difference between two versions; with from_as_of: between two instants.",
		Parameters: slices.Concat([]*huma.Param{which}, explainKeys(), []*huma.Param{
			queryParam("as_of", "Only what was recorded at or before this instant, RFC 3339"),
			queryParam("version", "A version of the closed month; default: as the report answers"),
			queryParam("from_version", "Explain what changed since this version of the month"),
			queryParam("to_version", "up to this one; default: the newest"),
			queryParam("from_as_of", "Explain what changed since what was known at this instant, RFC 3339, up to as_of; of any report but adjustments"),
			queryParam("limit", "Events of a page, 1 to 1000; default 100"),
			queryParam("cursor", "next of the page before"),
			queryParam("format", "json or csv, the events; default: the header Accept"),
		}),
	}, rows: true, report: true}, s.explain)
}

// explainPlace is what a cursor carries.
type explainPlace struct {
	Ask     string
	Cut     report.Cut
	Version int
	Skip    int
}

func (s *server) explain(ctx context.Context, who caller, _ *explainInput) (*explainOutput, error) {
	values, _ := ctx.Value(queryKey).(map[string][]string)
	q := report.ExplainQuery{Tenant: who.Tenant, Report: first(values["report"]), Values: map[string]string{}}
	ask := q.Report
	for _, p := range explainKeys() {
		if v, ok := values[p.Name]; ok {
			if len(v) > 1 {
				return nil, wrong(p.Name, "given more than once")
			}
			q.Values[p.Name] = v[0]
			ask += " " + p.Name + "=" + strconv.Quote(v[0])
		}
	}
	var err error
	if q.AsOf, err = asOf(first(values["as_of"])); err != nil {
		return nil, err
	}
	for name, into := range map[string]*int{"version": &q.Version, "from_version": &q.From, "to_version": &q.To} {
		if *into, err = versionNumber(name, first(values[name])); err != nil {
			return nil, err
		}
	}
	if q.Since, err = instantOf("from_as_of", first(values["from_as_of"]), 0); err != nil {
		return nil, err
	}
	ask += fmt.Sprint(" ", q.AsOf, q.Version, q.From, q.To, q.Since)
	if q.From == 0 && q.To != 0 {
		return nil, wrong("from_version", "to_version goes with from_version")
	}
	if q.Limit, err = limitOf(first(values["limit"]), 100); err != nil {
		return nil, err
	}
	if cursor := first(values["cursor"]); cursor != "" {
		var place explainPlace
		if err := s.cursors.take(who.Tenant, "explain", cursor, &place); err != nil {
			return nil, err
		}
		if place.Ask != ask {
			return nil, refuse(codeCursor, "the cursor belongs to another question; start again without it")
		}
		q.Skip, q.Cut, q.Version = place.Skip, &place.Cut, place.Version
	}
	e, err := s.reports.Explain(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &explainOutput{Body: explainAnswer{Explanation: e}}
	if int64(q.Skip+len(e.Events)) >= e.Total || len(e.Events) == 0 {
		return out, nil
	}
	next, err := s.cursors.give(who.Tenant, "explain", explainPlace{Ask: ask, Cut: e.Cut, Version: e.Version, Skip: q.Skip + len(e.Events)})
	out.Body.Next, out.Next = &next, next
	return out, err
}
