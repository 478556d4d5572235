package main

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

func (t *tool) report() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "report",
		Short: "List the reports, show one, export it, make it in the background",
		Example: `  countinghouse report ls
  countinghouse report show sta-usage --account northwind --month {last}
  countinghouse report show asset-usage-detail --tenant alpine --month {last} --out detail.parquet`,
	})
	cmd.AddCommand(t.reportLs(), t.reportShow(), t.reportRun(), t.reportJobs(), t.reportCancel(), t.reportFetch(), t.reportRegenerate())
	return cmd
}

func (t *tool) reportLs() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls [REPORT]",
		Short: "List the reports, or the parameters and columns of one",
		Long: `Lists the reports, or the parameters and columns of one. The list is in this program: no server is asked,
and --dir, --url, --reporter-url and --token may stand here as with show, without effect.`,
		Example: `  countinghouse report ls
  countinghouse report ls sta-usage`,
		Args: arguments(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				rows := &listing.Rows{Columns: []string{"report", "title", "parameters"}}
				for _, d := range report.Definitions() {
					rows.Add(d.Name, d.Title, parametersOf(d))
				}
				return t.print(rows)
			}
			d, ok := report.Define(args[0])
			if !ok {
				return noReport(args[0])
			}
			rows := &listing.Rows{Columns: []string{"what", "name", "kind", "doc"}}
			for _, p := range d.Parameters {
				kind := "optional"
				if p.Required {
					kind = "required"
				}
				rows.Add("parameter", p.Name, kind, parameterDoc(p))
			}
			for _, c := range d.Columns {
				rows.Add("column", c.Name, c.Kind.String(), c.Doc)
			}
			if d.Columns == nil {
				rows.Add("column", "…", "", "depends on the parameters; /reports/"+d.Name+"/columns tells which there are")
			}
			return t.print(rows)
		},
		ValidArgs: reportNames(),
	}
	return t.listingFlag(t.clientFlags(cmd))
}

func noReport(name string) error {
	return usageError("no report %q; there are %s", name, strings.Join(reportNames(), ", "))
}

func reportNames() []string {
	var names []string
	for _, d := range report.Definitions() {
		names = append(names, d.Name)
	}
	return names
}

// parametersOf are a report's parameters on one line, those that may be left out in brackets.
func parametersOf(d report.Definition) string {
	var words []string
	for _, p := range d.Parameters {
		if p.Required {
			words = append(words, p.Name)
		} else {
			words = append(words, "["+p.Name+"]")
		}
	}
	return strings.Join(words, " ")
}

func parameterDoc(p report.Parameter) string {
	doc := p.Doc
	if p.Values != nil {
		doc += ": " + strings.Join(p.Values, ", ")
	}
	return doc
}

// reportQuestion is what the flags of `report show` ask.
type reportQuestion struct {
	values        map[string]*string // by parameter
	more          []string           // name=value
	asOf, version string
	format, out   string
	limit         int
}

func (t *tool) reportShow() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "show",
		Short: "Show a report, or export it to a file",
		Long: `Shows a report as a table, or with --out or --format writes it to a file: whole or not at all.

--out FILE chooses the format by its ending (.csv, .parquet, .xlsx, .json); --out FOLDER takes the file
name that the report suggests.`,
		Example: `  countinghouse report show sta-usage --account northwind --month {last}
  countinghouse report show sta-usage --account northwind --from {before} --to {last} --scope tree --out .
  countinghouse report show elastic-usage --from {last}-01T00:00:00Z --to {this}-01T00:00:00Z -o csv`,
	})
	for _, d := range report.Definitions() {
		cmd.AddCommand(t.reportShowOne(d))
	}
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return noReport(args[0])
		}
		return nil
	}
	// The flags are those of the reports: behind a name that is none, the name is what is wrong, not the flag.
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if c == cmd && c.Flags().NArg() > 0 {
			return noReport(c.Flags().Arg(0))
		}
		return err
	})
	return cmd
}

func (t *tool) reportShowOne(d report.Definition) *cobra.Command {
	q := &reportQuestion{values: map[string]*string{}}
	example := "  countinghouse report show " + d.Name + " " + reportExamples()[d.Name]
	cmd := &cobra.Command{
		Use: d.Name, Short: d.Title, Long: cmp.Or(d.Doc, d.Title), Example: example + "\n" + example + " --out .", Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := q.query(d)
			if err != nil {
				return err
			}
			return t.showReport(cmd.Context(), d, q, query)
		},
	}
	for _, p := range d.Parameters {
		if p.Name == "limit" || p.Name == "cursor" {
			continue // pages are our business
		}
		q.values[p.Name] = cmd.Flags().String(flagOf(p), "", parameterDoc(p))
		if p.Values != nil {
			_ = cmd.RegisterFlagCompletionFunc(flagOf(p), cobra.FixedCompletions(p.Values, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	var formats []string
	for _, f := range sheet.Formats() {
		formats = append(formats, string(f))
	}
	cmd.Flags().StringArrayVarP(&q.more, "param", "p", nil, "a parameter as `name=value`, as often as needed")
	cmd.Flags().StringVar(&q.asOf, "as-of", "", "only what was recorded at or before this `instant` (RFC 3339)")
	cmd.Flags().StringVar(&q.version, "version", "", "a version of the closed month that --month names")
	cmd.Flags().StringVar(&q.format, "format", "", "export as "+sheet.FormatNames())
	cmd.Flags().StringVar(&q.out, "out", "", "write to this `file`, or in this folder under the suggested name; - is stdout")
	cmd.Flags().IntVar(&q.limit, "limit", 0, "most rows to show (default: all; 200 on a terminal)")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	return t.listingFlag(t.clientFlags(cmd))
}

// parametersGiven reads -p name=value, given as often as needed.
func parametersGiven(pairs []string) (map[string]string, error) {
	given := map[string]string{}
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, usageError("-p %s: want name=value", pair)
		}
		given[name] = value
	}
	return given, nil
}

func flagOf(p report.Parameter) string { return strings.ReplaceAll(p.Name, "_", "-") }

// query checks what can be checked here, so that a mistake costs no round trip.
func (q *reportQuestion) query(d report.Definition) (url.Values, error) {
	query := url.Values{}
	for name, value := range q.values {
		if *value != "" {
			query.Set(name, *value)
		}
	}
	more, err := parametersGiven(q.more)
	if err != nil {
		return nil, err
	}
	for name, value := range more {
		query.Set(name, value)
	}
	for _, p := range d.Parameters {
		value := query.Get(p.Name)
		switch {
		case p.Required && value == "":
			return nil, usageError("--%s must be given: %s", flagOf(p), parameterDoc(p))
		case value != "" && p.Values != nil && !slices.Contains(p.Values, value):
			return nil, usageError("--%s %s: want one of %s", flagOf(p), value, strings.Join(p.Values, ", "))
		}
	}
	if q.asOf != "" {
		query.Set("as_of", q.asOf)
	}
	if q.version != "" {
		query.Set("version", q.version)
	}
	return query, nil
}
