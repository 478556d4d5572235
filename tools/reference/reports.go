package main

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

// reports are all reports with their parameters and columns.
func reports(w *strings.Builder) error {
	for _, d := range report.Definitions() {
		fmt.Fprintf(w, "## `%s`\n\n%s.", d.Name, strings.TrimRight(d.Title, "."))
		if d.Doc != "" {
			fmt.Fprintf(w, " %s", d.Doc)
		}
		w.WriteString("\n\n")
		header(w, "parameter", "", "means")
		example := url.Values{}
		for _, p := range d.Parameters {
			need, doc := "", p.Doc
			if p.Required {
				need = "required"
				example.Set(p.Name, p.Example)
			}
			if p.Values != nil {
				doc += ": " + code(strings.Join(p.Values, "`, `"))
			}
			row(w, code(p.Name), need, doc)
		}
		query := ""
		if len(example) > 0 {
			query = "?" + example.Encode()
		}
		fmt.Fprintf(w, "\nExample: `GET /api/v1/reports/%s%s`\n\n", d.Name, query)
		if d.Columns == nil {
			w.WriteString("Its columns depend on the parameters.\n\n")
			continue
		}
		header(w, "column", "kind", "")
		for _, c := range d.Columns {
			kind := c.Kind.String()
			if c.Adds {
				kind += ", adds up"
			}
			row(w, code(c.Name), kind, c.Doc)
		}
		w.WriteString("\n")
	}
	kinds(w)
	return nil
}

// kinds says what a cell looks like, by kind of column and format.
func kinds(w *strings.Builder) {
	w.WriteString("## Kinds of columns\n\nA blank cell is null, whatever the format; in JSON a blank text or code is `\"\"`. CSV is RFC 4180 with CRLF and a header line.\n\n")
	header(w, "kind", "CSV", "JSON", "Parquet", "XLSX")
	const asText = "text"
	for _, k := range []struct {
		kind                sheet.Kind
		csv, json, pq, xlsx string
	}{
		{sheet.Text, "as given; a leading `= + - @`, tab or CR gets a `'` before it", "string", "STRING", asText},
		{sheet.Code, "as given", "string", "STRING", asText},
		{sheet.Whole, "`-12`", "number", "INT64", "number; text beyond 15 digits"},
		{sheet.Decimal, "`12.500000`", "string", "DECIMAL(38, 9)", "number with the same decimals; text beyond 15 digits, because a spreadsheet keeps no more"},
		{sheet.Instant, "`2025-03-01T00:00:00Z`", "string", "TIMESTAMP(ms, UTC)", "date and time, UTC"},
		{sheet.Date, "`2025-03-01`", "string", "DATE", "date"},
		{sheet.Month, "`2025-03`", "string", "STRING", asText},
		{sheet.Bool, "`TRUE`, `FALSE`", "true, false", "BOOLEAN", "boolean"},
		{sheet.JSON, "a JSON document", "the document itself", "STRING", asText},
	} {
		row(w, k.kind.String(), k.csv, k.json, k.pq, k.xlsx)
	}
	w.WriteString("\nA column that adds up has a control total in the manifest of a file: the exact sum of all its rows, whatever meter, unit or currency stands beside them, so that two files can be compared. " +
		"A version, a price, a balance or a number with all accounts below has none: its rows count the same things more than once, or nothing.\n")
	w.WriteString("\nXLSX ends at 1,048,576 rows and 32,767 characters a cell, and refuses more (`format-limit`). A file that breaks off breaks its connection: what arrived whole is whole.\n")
}
