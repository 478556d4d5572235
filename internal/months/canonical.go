package months

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"slices"
	"strconv"

	"github.com/countinghouse/countinghouse/internal/report"
)

// content is what a version of a month says: its rows in the order of report.CompareMonthRows, its other
// figures in the order of compareFigures.
type content struct {
	rows    []report.MonthRow
	figures []report.Figure
}

func newContent(rows []report.MonthRow, figures []report.Figure) *content {
	c := &content{rows, slices.Clone(figures)}
	slices.SortStableFunc(c.figures, compareFigures)
	return c
}

// compareFigures orders by everything that tells figures apart.
func compareFigures(a, b report.Figure) int {
	return cmp.Or(
		cmp.Compare(a.Account, b.Account), cmp.Compare(a.Plan, b.Plan), cmp.Compare(a.Meter, b.Meter), cmp.Compare(a.Region, b.Region),
		cmp.Compare(a.Platform, b.Platform), compareBool(a.Trial, b.Trial), cmp.Compare(a.Measure, b.Measure), cmp.Compare(a.Currency, b.Currency),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// canonical writes the canonical rows, which the hash is of: UTF-8, one JSON array of strings a line, without
// spaces, ended by a line feed, escaped as encoding/json does with HTML escaping off. The first line names
// the form, the tenant and the month; a line for each row follows, then one for each figure. Decimals are the
// exact text that is stored and served, instants RFC 3339 in UTC, truths TRUE and FALSE, what is absent "".
func (c *content) canonical(w io.Writer, tenant, month string) error {
	b := bufio.NewWriterSize(w, 64<<10)
	out := json.NewEncoder(b) // ends each value with a line feed
	out.SetEscapeHTML(false)
	if err := out.Encode([]string{"countinghouse month 1", tenant, month}); err != nil {
		return err
	}
	for i := range c.rows {
		r := &c.rows[i]
		if err := out.Encode([]string{
			"row", r.Account, r.AccountName, r.Plan, r.Meter, r.Unit, r.Region, r.Platform, truth(r.Trial), truth(r.Resolved),
			r.Quantity, strconv.FormatInt(r.Events, 10), r.QuantityTree, strconv.FormatInt(r.EventsTree, 10), r.FirstAt.String(), r.LastAt.String(),
		}); err != nil {
			return err
		}
	}
	for _, f := range c.figures {
		if err := out.Encode([]string{
			"figure", f.Account, f.Plan, f.Meter, f.Region, f.Platform, truth(f.Trial), f.Measure, f.Value, f.Cost, f.Currency,
		}); err != nil {
			return err
		}
	}
	return b.Flush()
}

func truth(b bool) string {
	if b {
		return "TRUE"
	}
	return "FALSE"
}

// sum is the SHA-256 of the canonical rows, in hexadecimal.
func (c *content) sum(tenant, month string) (string, error) {
	h := sha256.New()
	if err := c.canonical(h, tenant, month); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
