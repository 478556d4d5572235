package demo_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/demo"
	"github.com/countinghouse/countinghouse/internal/report"
)

// The examples in the descriptions of the reports are of the sample data: who tries one gets an answer.
func TestHasTheExamples(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 5, 13, 0, 0, 0, time.UTC)
	var text strings.Builder
	err := demo.Events(demo.Began(now), now, func(batch []byte, _ int) error {
		_, err := text.Write(batch)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := []string{"account", "tenant", "tenants", "organization", "partner", "customer", "instance", "activation", "meter", "plan"}
	for _, d := range report.Definitions() {
		for _, p := range d.Parameters {
			if !slices.Contains(named, p.Name) {
				continue
			}
			for one := range strings.SplitSeq(p.Example, ",") {
				if !strings.Contains(text.String(), strconv.Quote(one)) {
					t.Errorf("%s: the sample data has no %s %q", d.Name, p.Name, one)
				}
			}
		}
	}
}
