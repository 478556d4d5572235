package telemetry_test

import (
	"context"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/rig"
)

// promised are the metrics of the contract with who operates it: by service, each with its labels in order of name.
var promised = map[string]map[string]string{
	"ingest": {
		"ingest_events_total": "result", "ingest_ack_seconds": "", "ingest_request_seconds": "", "build_info": "go revision service version",
	},
	"aggregator": {
		"aggregator_lag_events": "shard", "aggregator_oldest_pending_seconds": "shard", "aggregator_rows_total": "target",
		"aggregator_insert_seconds": "target", "duplicates_total": "", "conflicts_total": "", "dead_letters_total": "reason",
		"reconcile_difference": "tenant", "log_bytes_used_ratio": "shard", "build_info": "go revision service version",
	},
	"reporter": {
		"month_state": "month tenant", "report_runs_total": "result", "email_send_total": "result", "build_info": "go revision service version",
	},
}

// ofTenants may have the label tenant; no other may, because tenants are many.
var ofTenants = []string{"reconcile_difference", "month_state"}

// TestMetrics: a system that has counted good events and poison, and made a report, serves each metric that was promised,
// with its labels and no others.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := start(t)
	load := s.StartLoad(1)
	s.Until("a hundred requests are acknowledged", rig.SettleWait, func(context.Context) bool { return load.Requests() > 100 })
	if err := load.Stop(); err != nil {
		t.Fatal(err)
	}
	s.Settle()
	// What compares tables, and what looks for months, does it when it starts, and not again for long.
	for _, part := range []*rig.Part{s.Aggregators[0], s.part} {
		back := part.Back()
		part.Kill()
		<-back
	}
	s.Until("the reporter is ready", rig.SettleWait, s.part.Ready)
	again := s.StartLoad(2) // what is counted from the first event on shows only then
	s.Until("more requests are acknowledged", rig.SettleWait, func(context.Context) bool { return again.Requests() > 100 })
	if err := again.Stop(); err != nil {
		t.Fatal(err)
	}
	s.Settle()
	report := s.reporter + "/api/v1/reports/monthly-usage?month=" + time.Now().UTC().Format("2006-01")
	if status := s.ask(t, http.MethodGet, report, "", http.Header{}); status != http.StatusOK {
		t.Fatalf("GET %s: %d", report, status)
	}
	ingest, aggregators := s.Admin()
	for name, admin := range map[string]string{"ingest": ingest, "aggregator": aggregators[0], "reporter": s.part.Admin()} {
		var served map[string]string
		s.Until(name+" serves "+strings.Join(slices.Sorted(maps.Keys(promised[name])), ", "), rig.SettleWait, func(ctx context.Context) bool {
			served = metrics(ctx, admin)
			for metric := range promised[name] {
				if _, there := served[metric]; !there {
					return false
				}
			}
			return true
		})
		for metric, labels := range served {
			if want, ours := promised[name][metric]; ours && labels != want {
				t.Errorf("%s: %s has the labels %q, want %q", name, metric, labels, want)
			}
			if strings.Contains(labels, "tenant") && !slices.Contains(ofTenants, metric) {
				t.Errorf("%s: %s has a label for tenants", name, metric)
			}
		}
	}
}

// metrics are the names served, without prefix, and their labels; those of histograms without their own.
func metrics(ctx context.Context, admin string) map[string]string {
	body, err := rig.Fetch(ctx, admin+"/metrics")
	if err != nil {
		return nil
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		return nil
	}
	line := regexp.MustCompile(`(?m)^countinghouse_([a-z_]+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? \S+$`)
	label := regexp.MustCompile(`([a-z_]+)="`)
	served := map[string]string{}
	for _, m := range line.FindAllStringSubmatch(string(text), -1) {
		var names []string
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" {
				names = append(names, l[1])
			}
		}
		slices.Sort(names)
		served[m[1]] = strings.Join(names, " ")
	}
	return served
}
