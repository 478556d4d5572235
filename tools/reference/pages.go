package main

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countinghouse/countinghouse/internal/telemetry"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// pages is the reference, in the order of its index.
func pages() []page {
	return []page{
		{"events.md", "Event types", "CloudEvents 1.0; the schemas themselves, with examples, are in [schema/event](../../schema/event/README.md). Every `data` may also carry " +
			"`actor` {id, name, email} and `source_seq`. Members that are not listed are refused. A decimal is a JSON number or a string that holds one.", events},
		{"event-codes.md", "Codes of an event", "Why an event was refused (HTTP 422, `errors[].code`) or quarantined (`dead_letters_v1.reason`). " +
			"A code never changes its meaning.", eventCodes},
		{"metrics.md", "Metrics", "Served on `/metrics` of each service's admin port.", metrics},
		{"tables.md", "Tables and views", "From `schema/clickhouse`. Analysts read the views of `usage_api`; the tables are here for whoever repairs something.", tables},
	}
}

func eventCodes(w *strings.Builder) error {
	header(w, "code", "means", "what to do")
	for _, c := range usage.Codes() {
		row(w, code(c.Name), c.Meaning, c.Action)
	}
	return nil
}

// metric is one metric as it was registered.
type metric struct{ name, kind, labels, help string }

// recorder is a prometheus.Registerer that keeps the collectors instead of serving them.
type recorder struct{ collectors []prometheus.Collector }

func (r *recorder) Register(c prometheus.Collector) error {
	r.collectors = append(r.collectors, c)
	return nil
}

func (r *recorder) MustRegister(cs ...prometheus.Collector) {
	r.collectors = append(r.collectors, cs...)
}

func (r *recorder) Unregister(prometheus.Collector) bool { return false }

func metrics(w *strings.Builder) error {
	services := []struct {
		name     string
		register func(prometheus.Registerer)
	}{
		{"ingest", func(r prometheus.Registerer) { telemetry.NewIngest(r) }},
		{"aggregator", func(r prometheus.Registerer) { telemetry.NewAggregator(r) }},
		{"reporter", func(r prometheus.Registerer) { telemetry.NewReporter(r) }},
	}
	for _, s := range services {
		var r recorder
		s.register(&r)
		w.WriteString("## " + s.name + "\n\n")
		header(w, "metric", "kind", "labels", "what it says")
		var all []metric
		for _, c := range r.collectors {
			all = append(all, describe(c)...)
		}
		slices.SortFunc(all, func(a, b metric) int { return cmp.Compare(a.name, b.name) })
		for _, m := range all {
			row(w, code(m.name), m.kind, m.labels, m.help)
		}
		w.WriteString("\n")
	}
	w.WriteString("Every service also serves `countinghouse_build_info` and the `go_…` and `process_…` figures of its runtime.\n")
	return nil
}

// description takes a prometheus.Desc apart; its fields are readable only as text.
var description = regexp.MustCompile(`fqName: "([^"]*)", help: "((?:[^"\\]|\\.)*)", .*variableLabels: \{([^}]*)\}`)

func describe(c prometheus.Collector) []metric {
	kind := "counter"
	switch c.(type) {
	case *prometheus.GaugeVec, prometheus.GaugeFunc:
		kind = "gauge"
	case *prometheus.HistogramVec, prometheus.Histogram:
		kind = "histogram"
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		c.Describe(descs)
	}()
	var found []metric
	for d := range descs {
		if m := description.FindStringSubmatch(d.String()); m != nil {
			found = append(found, metric{name: m[1], kind: kind, labels: strings.ReplaceAll(m[3], ",", ", "), help: m[2]})
		}
	}
	return found
}
