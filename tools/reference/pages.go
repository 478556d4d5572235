package main

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countinghouse/countinghouse/internal/aggregator"
	"github.com/countinghouse/countinghouse/internal/config"
	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/ingest"
	"github.com/countinghouse/countinghouse/internal/reporter"
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
		{"request-codes.md", "Codes of a request", "Why a whole request was refused, as `code` in `application/problem+json`. " +
			"Where ingest refuses it for its events, `errors[]` has a [code of an event](event-codes.md) each.", requestCodes},
		{"reports.md", "Reports", "`GET /api/v1/reports/{report}` of the reporter, or `countinghouse report show`. Every report also takes `as_of` (only what was recorded by then), " +
			"`version` (of the closed month that `month` names), `format` (json, csv, csv-pipe, parquet, xlsx) and, as JSON, `limit` and `cursor`. " +
			"`/reports/{report}/columns` tells an export's file name and columns beforehand. How columns look in each format is [at the end](#kinds-of-columns).", reports},
		{"configuration.md", "Configuration", "Flags beat environment, environment beats the file (`--config`), the file beats the defaults. " +
			"In the file a service's keys stand below its name (`ingest:`, then `listen:` and so on); `nats:`, `clickhouse:`, `log:` and `trace:` may also stand beside those " +
			"names, for every service that has them. A variable ending in `_FILE` names a file that holds the value. Unknown keys fail; `countinghouse config check` names every fault at once.", configuration},
		{"metrics.md", "Metrics", "Served on `/metrics` of each service's admin port.", metrics},
		{"tables.md", "Tables and views", "From `schema/clickhouse`. Analysts read the views of `usage_api`; the tables are here for whoever repairs something.", tables},
	}
}

func eventCodes(w *strings.Builder) error {
	header(w, "code", "means", "what to do")
	for _, c := range usage.Codes() {
		row(w, code(c.Name), c.Meaning, c.Action)
	}
	w.WriteString("\n## Rules of the directory\n\n" +
		"An event that breaks one of these is stored and has no effect: neither ingest nor the aggregator can know, because the rule is about other events. " +
		"`rule:<name>` is its status (`GET /events`) and its reason among the dead letters, as of now. A late event that makes it legal, or a void of what stood in " +
		"its way, gives it its effect back; there is nothing to replay.\n\n")
	header(w, "rule", "events", "broken when")
	for _, r := range directory.Rules() {
		row(w, code("rule:"+r.Name), r.Types, r.Doc)
	}
	return nil
}

func requestCodes(w *strings.Builder) error {
	w.WriteString("## ingest\n\n")
	header(w, "code", "status", "means", "what to do")
	for _, r := range ingest.Refusals() {
		row(w, code(r.Code), strconv.Itoa(r.Status), r.Meaning, r.Action)
	}
	w.WriteString("\n## reporter\n\n")
	header(w, "code", "status", "means", "what to do")
	for _, r := range reporter.Refusals() {
		row(w, code(r.Code), strconv.Itoa(r.Status), r.Meaning, r.Action)
	}
	return nil
}

func configuration(w *strings.Builder) error {
	for _, service := range services() {
		w.WriteString("## " + service.name + "\n\n")
		header(w, "key", "flag", "environment", "kind", "default", "")
		for _, f := range config.Reference(service.config) {
			row(w, code(f.Key), code("--"+f.Flag), code(f.Env(service.name)), f.Type, code(f.Default), f.Help)
		}
		w.WriteString("\n")
	}
	return nil
}

// service is one of the three, with the defaults of its Config and the metrics it registers.
type service struct {
	name     string
	config   any
	register func(prometheus.Registerer)
}

func services() []service {
	return []service{
		{"ingest", ingest.DefaultConfig(), func(r prometheus.Registerer) { telemetry.NewIngest(r) }},
		{"aggregator", aggregator.DefaultConfig(), func(r prometheus.Registerer) { telemetry.NewAggregator(r) }},
		{"reporter", reporter.DefaultConfig(), func(r prometheus.Registerer) { telemetry.NewReporter(r) }},
	}
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
	for _, s := range services() {
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
	case *prometheus.GaugeVec:
		kind = "gauge"
	case *prometheus.HistogramVec:
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
