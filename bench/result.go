package main

import (
	"maps"
	"math"
	"slices"
	"time"
)

// result is what the load found. README.md says what each figure means.
type result struct {
	EventsPerSecond     int
	FreshnessAskedMS    quantiles // at half of askedRate
	FreshnessMS         quantiles // at half of the rate that was reached
	AckMS               quantiles
	HalfLoadAckMS       quantiles
	CPUSecondsPerM      map[string]float64
	RSSMiB              map[string]int
	BytesPerEvent       float64
	LogBytesPerEvent    float64
	DirectRowsPerSecond int
	OfDirect            float64
	StatementsPerM      float64 // CPU-s of ClickHouse without merges; on a store only
	Identities          int64   // stored when the peaks were read

	Events      int64
	Seconds     float64
	SendSeconds float64
	Refused     int64
}

type quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

func spread(sorted []time.Duration) quantiles {
	ms := func(d time.Duration) float64 { return round(float64(d)/float64(time.Millisecond), 1) }
	return quantiles{P50: ms(quantile(sorted, 0.50)), P99: ms(quantile(sorted, 0.99))}
}

func round(x float64, digits int) float64 {
	p := math.Pow10(digits)
	return math.Round(x*p) / p
}

// load fills in the figures of the load phase.
func (r *result) load(sent tally, took time.Duration, before, after bill) {
	r.Events, r.Seconds, r.Refused, r.AckMS = sent.accepted, round(took.Seconds(), 2), sent.refused, spread(sent.acks)
	r.EventsPerSecond = int(float64(sent.accepted) / took.Seconds())
	r.CPUSecondsPerM, r.RSSMiB = map[string]float64{}, map[string]int{}
	for part, u := range after {
		r.CPUSecondsPerM[part] = round((u.cpu-before[part].cpu).Seconds()/float64(sent.accepted)*1e6, 2)
		r.RSSMiB[part] = int(u.peak >> 20)
	}
}

// askedRate is the load that the pipeline must sustain, in events per second.
const askedRate = 200_000

// figures are the lines with targets that the load can fill.
func (r *result) figures() []figure {
	list := []figure{
		{"events_per_second", "events/s, POST to ledger", float64(r.EventsPerSecond), "%.0f", atLeast(askedRate)},
		{"freshness_asked_p50_ms", "freshness at 100,000/s, p50 ms", r.FreshnessAskedMS.P50, "%.0f", atMost(1000)},
		{"freshness_asked_p99_ms", "freshness at 100,000/s, p99 ms", r.FreshnessAskedMS.P99, "%.0f", atMost(2000)},
		{"freshness_p50_ms", "freshness at half of this rate, p50 ms", r.FreshnessMS.P50, "%.0f", atMost(1000)},
		{"freshness_p99_ms", "freshness at half of this rate, p99 ms", r.FreshnessMS.P99, "%.0f", atMost(2000)},
		{"ack_p50_ms", "202 at full load, p50 ms", r.AckMS.P50, "%.1f", target{}},
		{"ack_p99_ms", "202 at full load, p99 ms", r.AckMS.P99, "%.1f", target{}},
		{"half_load_ack_p50_ms", "202 at half of this rate, p50 ms", r.HalfLoadAckMS.P50, "%.1f", target{}},
		{"half_load_ack_p99_ms", "202 at half of this rate, p99 ms", r.HalfLoadAckMS.P99, "%.1f", target{}},
	}
	cpu := map[string]target{"ingest": atMost(1.2), "nats": atMost(0.4), "aggregator": atMost(1.0), "clickhouse": atMost(1.6)}
	for _, part := range slices.Sorted(maps.Keys(r.CPUSecondsPerM)) {
		list = append(list, figure{"cpu_s_per_million_" + part, "CPU-s per million events, " + part, r.CPUSecondsPerM[part], "%.2f", cpu[part]})
	}
	memory := map[string]target{"ingest": atMost(128), "aggregator": memoryTarget(r.Identities)}
	for _, part := range slices.Sorted(maps.Keys(r.RSSMiB)) {
		list = append(list, figure{"rss_mib_" + part, "peak resident MiB, " + part, float64(r.RSSMiB[part]), "%.0f", memory[part]})
	}
	return append(list,
		figure{"bytes_per_event", "bytes per event in ClickHouse, merged", r.BytesPerEvent, "%.1f", atMost(80)},
		figure{"log_bytes_per_event", "bytes per event in the log", r.LogBytesPerEvent, "%.1f", atMost(120)},
		figure{"direct_insert_rows_per_second", "direct insert, rows/s", float64(r.DirectRowsPerSecond), "%.0f", target{}},
		figure{"of_direct_insert", "events/s of direct insert", r.OfDirect, "%.2f", atLeast(0.4)},
		figure{"events", "events of the load", float64(r.Events), "%.0f", target{}},
		figure{"seconds", "seconds, first request to last event counted", r.Seconds, "%.1f", target{}},
		figure{"requests_refused", "requests refused, and sent again", float64(r.Refused), "%.0f", target{}})
}

// memoryTarget is what the aggregator may take: 256 MiB and 2.5 bytes for each identity it must know.
func memoryTarget(identities int64) target {
	return atMost(round(256+2.5*float64(identities)/(1<<20), 0))
}
