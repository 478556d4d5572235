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

	"github.com/countinghouse/countinghouse/internal/audit"
	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/problem"
)

func (t *tool) audit() *cobra.Command {
	var month, tenant string
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Prove that nothing was lost or counted twice",
		Long: `Recomputes the ledger from the log and compares it with the warehouse: accepted = stored + duplicate +
conflict + quarantined, no sequence missing, raw rows = ledger, rollups = raw rows. Prints the
completeness certificate; exits 1 on any difference and names the place.`,
		Example: `  countinghouse audit
  countinghouse audit --month {last} -o json > certificate.json`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			format, err := t.format()
			if err != nil {
				return err
			}
			c, err := t.reader()
			if err != nil {
				return err
			}
			query := url.Values{}
			if month != "" {
				query.Set("month", month)
			}
			if tenant != "" {
				query.Set("tenant", tenant)
			}
			all := tenant == ""
			if all {
				query.Set("tenant", "*")
			}
			certificate, err := c.GetAs(cmd.Context(), "/audit", query, "application/json")
			var refused *problem.Problem
			if all && errors.As(err, &refused) && refused.Status == http.StatusForbidden {
				query.Del("tenant") // a key that may not see all tenants audits its own
				certificate, err = c.GetAs(cmd.Context(), "/audit", query, "application/json")
			}
			if err != nil {
				return err
			}
			return t.certificate(format, certificate)
		},
	}
	cmd.AddCommand(t.verifyLog())
	cmd.Flags().StringVar(&month, "month", "", "only this month, YYYY-MM")
	cmd.Flags().StringVar(&tenant, "tenant", "", "only this tenant (default: all that the key may audit)")
	return t.listingFlag(t.clientFlags(cmd))
}

// certificate prints what GET /audit answered; JSON as it came, because its hash is over its bytes' content.
func (t *tool) certificate(format listing.Format, text []byte) error {
	var c audit.Certificate
	if err := json.Unmarshal(text, &c); err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	if format == listing.JSON {
		if err := listing.Document(t.out, json.RawMessage(text)); err != nil {
			return err
		}
	} else if err := t.certificateTables(format, &c); err != nil {
		return err
	}
	for _, d := range c.Differences {
		fmt.Fprintf(t.err, "countinghouse: difference: %s\n", place(&d))
	}
	if more := c.DifferenceCount - uint64(len(c.Differences)); more > 0 {
		fmt.Fprintf(t.err, "countinghouse: %d more differences, not listed\n", more)
	}
	if !c.OK {
		return no()
	}
	return nil
}

// place is where a difference is, on one line.
func place(d *audit.Difference) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s at %d:%d", d.Check, d.Shard, d.Seq)
	if d.SeqTo > d.Seq {
		fmt.Fprintf(&b, " to %d", d.SeqTo)
	} else {
		fmt.Fprintf(&b, ":%d", d.Idx)
	}
	for _, f := range [][2]string{
		{"tenant", d.Tenant}, {"month", d.Month}, {"source", d.Source}, {"id", d.ID}, {"cell", d.Cell}, {"what", d.What}, {"want", d.Want}, {"have", d.Have},
	} {
		if f[1] != "" {
			fmt.Fprintf(&b, ", %s %s", f[0], f[1])
		}
	}
	return b.String()
}

func (t *tool) certificateTables(format listing.Format, c *audit.Certificate) error {
	whole := func(n uint64) string { return strconv.FormatUint(n, 10) }
	short := func(n uint16) string { return strconv.FormatUint(uint64(n), 10) }
	if format == listing.Table {
		verdict := "complete: log = ledger = raw rows = rollups"
		if !c.OK {
			verdict = fmt.Sprintf("NOT complete: %d differences", c.DifferenceCount)
		}
		fmt.Fprintf(t.out, "%s\n%d messages and %d events of the log compared in %s, at %s\ncertificate sha256 %s\n\n",
			verdict, c.Messages, c.Events, c.Seconds, c.At, c.SHA256)
	}
	tenants := listing.Rows{
		Columns: []string{"tenant", "month", "accepted", "stored", "duplicate", "conflict", "quarantined", "voided", "raw_rows"},
		Numbers: []string{"accepted", "stored", "duplicate", "conflict", "quarantined", "voided", "raw_rows"},
	}
	meters := listing.Rows{Columns: []string{"tenant", "month", "meter", "raw", "rollup"}, Numbers: []string{"raw", "rollup"}}
	for _, r := range c.Tenants {
		tenants.Add(r.Tenant, r.Month, whole(r.Accepted), whole(r.Stored), whole(r.Duplicate), whole(r.Conflict), whole(r.Quarantined), whole(r.Voided), whole(r.RawRows))
		for _, m := range r.Meters {
			meters.Add(r.Tenant, r.Month, m.Meter, m.Raw, m.Rollup)
		}
	}
	shards := listing.Rows{
		Columns: []string{"shard", "partition", "incarnation", "from", "to", "messages", "missing", "log_seq", "pending", "counted_to"},
		Numbers: []string{"shard", "partition", "incarnation", "from", "to", "messages", "missing", "log_seq", "pending"},
	}
	for _, s := range c.Shards {
		shards.Add(short(s.Shard), short(s.Partition), short(s.Incarnation), whole(s.From), whole(s.To), whole(s.Messages), whole(s.Missing), whole(s.LogSeq), whole(s.Pending), s.CountedTo)
	}
	if format == listing.CSV { // one header, so that it can be read by a program: the ledger
		return tenants.Print(t.out, format)
	}
	for _, rows := range []*listing.Rows{&tenants, &meters, &shards} {
		if err := rows.Print(t.out, format); err != nil {
			return err
		}
		fmt.Fprintln(t.out)
	}
	return nil
}

// cell is a member of a JSON object, in a table.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	text, err := json.Marshal(v)
	if err != nil { // it was JSON a moment ago
		return "?"
	}
	return string(text)
}
