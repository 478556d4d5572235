package jobs

import (
	"encoding/json"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/reporter/mail"
)

// Manifest says what a file holds and where it comes from, for those who check it later. Of the same job it
// is always the same, but for made_at.
type Manifest struct {
	Job        string            `json:"job"`
	Tenant     string            `json:"tenant"`
	Report     string            `json:"report"`
	Name       string            `json:"name"`
	Parameters map[string]string `json:"parameters"`
	Format     string            `json:"format"`
	Raw        bool              `json:"raw"`
	File       string            `json:"file"`
	Bytes      int64             `json:"bytes"`
	SHA256     string            `json:"sha256"`
	Rows       int64             `json:"rows"`
	Columns    []ManifestColumn  `json:"columns"`
	Totals     []sheet.Total     `json:"totals"` // of the columns whose rows add up, exact
	MonthState string            `json:"month_state,omitzero"`
	Version    int               `json:"version"` // of the closed month; 0: computed
	AsOf       time.Time         `json:"as_of"`
	Positions  map[uint16]uint64 `json:"positions"`
	MadeAt     time.Time         `json:"made_at"`
	Schedule   string            `json:"schedule,omitzero"`
	Run        string            `json:"run,omitzero"`
	Chart      *mail.Chart       `json:"chart,omitzero"` // of the mail
}

// ManifestColumn is a column of the file.
type ManifestColumn struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
}

func newManifest(j *control.Job, f control.JobFile, columns []sheet.Column, tally *sheet.Tally, chart *mail.Chart) *Manifest {
	m := &Manifest{
		Job: j.ID, Tenant: j.Tenant, Report: j.Report, Name: j.Name, Parameters: j.Parameters, Format: j.Format, Raw: j.Raw,
		File: f.Name, Bytes: f.Bytes, SHA256: f.SHA256, Rows: f.Rows, Columns: []ManifestColumn{}, Totals: tally.Totals(),
		MonthState: j.Cut.State, Version: j.Cut.Version, AsOf: j.Cut.AsOf, Positions: j.Cut.Positions, MadeAt: f.MadeAt,
		Schedule: j.Schedule, Run: j.Run, Chart: chart,
	}
	for _, c := range columns {
		m.Columns = append(m.Columns, ManifestColumn{c.Name, c.Kind.String()})
	}
	return m
}

// reader is the manifest as it is stored.
func (m *Manifest) reader() (io.Reader, error) {
	text, err := json.MarshalIndent(m, "", "  ")
	return strings.NewReader(string(text) + "\n"), err
}

// chartBars is how many numbers a mail shows.
const chartBars = 8

// charts say what a mail shows of a report: the columns that name a line, and the one that is drawn. Lines of
// the same name are added up, so the column is one whose values add up.
var charts = map[string]struct { //nolint:gochecknoglobals // a table of constants
	labels []string
	value  string
}{
	"sta-usage":           {[]string{"Account Name", "Month"}, "Users with Activity"},
	"sta-monthly-summary": {[]string{"Account Name", "Month", "Plan"}, "Users with Token"},
	"tenant-usage":        {[]string{"Tenant Name"}, "Users Used"},
	"asset-usage-detail":  {[]string{"meterName", "billingRegion"}, "quantity"},
	"asset-monthly-costs": {[]string{"tenantName", "meterName", "currency"}, "cost"},
	"asset-adjustments":   {[]string{"account", "meter", "measure"}, "delta"},
	"elastic-usage":       {[]string{"ITEM"}, "METER_QUANTITY"},
	"subscriptions":       {[]string{"Customer"}, "Cost"},
	"transactions":        {[]string{"Customer", "Action"}, "Cost"},
	"certificate-usage":   {[]string{"Customer"}, "Used"},
	"monthly-usage":       {[]string{"account_name", "meter"}, "quantity"},
}

// chartLabelsMax bounds the names that a chart adds up; a report with more has no chart.
const chartLabelsMax = 10_000

// charting collects the numbers of a chart while rows pass.
type charting struct {
	title  string
	labels []int
	value  int
	sums   map[string]*sheet.Sum
}

// newCharting is nil for a report, or columns, that no chart is made of.
func newCharting(name string, columns []sheet.Column) *charting {
	of, ok := charts[name]
	at := func(column string) int {
		return slices.IndexFunc(columns, func(c sheet.Column) bool { return c.Name == column })
	}
	c := &charting{title: of.value, value: at(of.value), sums: map[string]*sheet.Sum{}}
	if !ok || c.value < 0 {
		return nil
	}
	for _, label := range of.labels {
		if i := at(label); i >= 0 {
			c.labels = append(c.labels, i)
		}
	}
	return c
}

func (c *charting) add(row sheet.Row) {
	if c.sums == nil || row[c.value] == "" {
		return
	}
	var words []string
	for _, i := range c.labels {
		if row[i] != "" {
			words = append(words, row[i])
		}
	}
	label := strings.Join(words, " · ")
	sum := c.sums[label]
	if sum == nil {
		if len(c.sums) >= chartLabelsMax {
			c.sums = nil // too many for a picture
			return
		}
		sum = &sheet.Sum{}
		c.sums[label] = sum
	}
	sum.Add(row[c.value]) // the tally refuses what is no number
}

// chart is the longest bars; nil where there is nothing to see.
func (c *charting) chart() *mail.Chart {
	if c == nil {
		return nil
	}
	type line struct {
		label string
		sum   *sheet.Sum
	}
	var lines []line
	for label, sum := range c.sums {
		if sum.Compare(&sheet.Sum{}) != 0 {
			lines = append(lines, line{label, sum})
		}
	}
	slices.SortFunc(lines, func(a, b line) int {
		if n := b.sum.Compare(a.sum); n != 0 {
			return n
		}
		return strings.Compare(a.label, b.label)
	})
	if len(lines) == 0 {
		return nil
	}
	chart := &mail.Chart{Title: c.title}
	if len(lines) > chartBars {
		lines = lines[:chartBars]
		chart.Title += ", the largest"
	}
	for _, l := range lines {
		chart.Bars = append(chart.Bars, mail.Bar{Label: l.label, Value: l.sum.Text()})
	}
	return chart
}

// cutOf is what a job is about, as reports take it.
func cutOf(c *control.JobCut) *report.Cut {
	return &report.Cut{AsOf: c.AsOf.UnixMilli(), Shards: c.Positions}
}
