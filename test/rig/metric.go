package rig

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Metric is a figure of a part's own /metrics, summed over its labels, without what is behind the point.
func (p *Part) Metric(ctx context.Context, name string) (int64, error) {
	body, err := Fetch(ctx, p.Admin()+"/metrics")
	if err != nil {
		return 0, err
	}
	defer body.Close()
	var sum int64
	found := false
	for lines := bufio.NewScanner(body); lines.Scan(); {
		rest, ours := strings.CutPrefix(lines.Text(), name)
		if !ours || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		n, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s of %s: %w", name, p.Name, err)
		}
		sum, found = sum+int64(n), true
	}
	if !found {
		return 0, fmt.Errorf("%s has no metric %s", p.Name, name)
	}
	return sum, nil
}
