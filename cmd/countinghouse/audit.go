package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/spf13/cobra"

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
  countinghouse audit --month 2026-01 -o json > certificate.json`,
		Args: cobra.NoArgs,
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
			var certificate map[string]any
			err = c.Get(cmd.Context(), "/audit", query, &certificate)
			var refused *problem.Problem
			if all && errors.As(err, &refused) && refused.Status == http.StatusForbidden {
				query.Del("tenant") // a key that may not see all tenants audits its own
				err = c.Get(cmd.Context(), "/audit", query, &certificate)
			}
			if err != nil {
				return err
			}
			return t.certificate(format, certificate)
		},
	}
	cmd.Flags().StringVar(&month, "month", "", "only this month, YYYY-MM")
	cmd.Flags().StringVar(&tenant, "tenant", "", "only this tenant (default: all that the key may audit)")
	return t.listingFlag(t.clientFlags(cmd))
}

// certificate prints what GET /audit answered: its scalars first, then each of its lists as a table.
func (t *tool) certificate(format listing.Format, doc map[string]any) error {
	differences, _ := doc["differences"].([]any)
	verdict, told := doc["ok"].(bool)
	if format == listing.JSON {
		if err := listing.Document(t.out, doc); err != nil {
			return err
		}
	} else if err := t.certificateTables(format, doc); err != nil {
		return err
	}
	if len(differences) == 0 && (verdict || !told) {
		return nil
	}
	for _, d := range differences {
		text, err := json.Marshal(d)
		if err != nil {
			return fmt.Errorf("print difference: %w", err)
		}
		fmt.Fprintf(t.err, "countinghouse: difference: %s\n", text)
	}
	return no()
}

// certificateTables prints the scalars, then each list as a table of its own; lists within rows, such as
// the meters of a tenant's month, are tables too, with the names of their row.
func (t *tool) certificateTables(format listing.Format, doc map[string]any) error {
	head := listing.Rows{Columns: []string{"field", "value"}}
	for _, key := range sortedKeys(doc) {
		if _, list := doc[key].([]any); !list {
			flatten(&head, key, doc[key])
		}
	}
	if err := head.Print(t.out, format); err != nil {
		return err
	}
	for _, key := range sortedKeys(doc) {
		list, _ := doc[key].([]any)
		inner := lift(list)
		inner[key] = list
		for _, name := range sortedKeys(inner) {
			if len(inner[name]) == 0 {
				continue
			}
			fmt.Fprintf(t.out, "\n%s\n", name)
			rows := rowsOf(inner[name])
			if err := rows.Print(t.out, format); err != nil {
				return err
			}
		}
	}
	return nil
}

// lift takes the lists out of rows: each of their items gets the texts of its row beside its own.
func lift(list []any) map[string][]any {
	out := map[string][]any{}
	for _, item := range list {
		row, ok := item.(map[string]any)
		if !ok {
			continue
		}
		for key, v := range row {
			inner, ok := v.([]any)
			if !ok {
				continue
			}
			for _, x := range inner {
				named := map[string]any{"value": x}
				if object, ok := x.(map[string]any); ok {
					named = maps.Clone(object)
				}
				for k, text := range row {
					if s, ok := text.(string); ok && named[k] == nil {
						named[k] = s
					}
				}
				out[key] = append(out[key], named)
			}
			delete(row, key)
		}
	}
	return out
}

// rowsOf makes a table of objects: a column for every member that any of them has.
func rowsOf(list []any) listing.Rows {
	var rows listing.Rows
	for _, item := range list {
		object, ok := item.(map[string]any)
		if !ok {
			object = map[string]any{"value": item}
		}
		for _, key := range sortedKeys(object) {
			if !slices.Contains(rows.Columns, key) {
				rows.Columns = append(rows.Columns, key)
			}
			if _, number := object[key].(float64); number && !slices.Contains(rows.Numbers, key) {
				rows.Numbers = append(rows.Numbers, key)
			}
		}
	}
	for _, item := range list {
		object, ok := item.(map[string]any)
		if !ok {
			object = map[string]any{"value": item}
		}
		cells := make([]string, len(rows.Columns))
		for i, key := range rows.Columns {
			cells[i] = cell(object[key])
		}
		rows.Add(cells...)
	}
	return rows
}

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
