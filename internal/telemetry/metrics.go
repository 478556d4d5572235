package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

const namespace = "countinghouse"

// NewRegistry holds build_info and the usual figures of the Go runtime and the process.
func NewRegistry(v Version) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gauge(reg, "build_info", "What the binary was built from; always 1.", "service", "version", "revision", "go").
		WithLabelValues(v.Service, v.Version, v.Revision, v.Go).Set(1)
	return reg
}

// ackBuckets reach from an fsync on a good disk (0.2 ms) to the publish time-out.
var ackBuckets = []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10}

// Ingest is what cmd/ingest counts.
type Ingest struct {
	// Events by result: accepted (in the log), refused (the sender's fault), failed (not answered 202
	// and perhaps in the log all the same), throttled (429).
	Events *prometheus.CounterVec
	// Ack is the time from publishing a chunk to its PubAck.
	Ack prometheus.Histogram
	// Request is the time from the first byte of a request's header to the answer.
	Request prometheus.Histogram
	// Chunks and ChunkEvents tell how well requests are packed together.
	Chunks, ChunkEvents prometheus.Counter
	// Waiting is the encoded bytes waiting for the log, bounded by the limits of back-pressure.
	Waiting prometheus.Gauge
	// Problems counts answers other than 2xx by problem code.
	Problems *prometheus.CounterVec
	// LogLost is not 0 when the log has lost what it had confirmed: an alarm.
	LogLost prometheus.Counter
}

// NewIngest registers the ingest metrics.
func NewIngest(reg prometheus.Registerer) *Ingest {
	return &Ingest{
		Events:      counter(reg, "ingest_events_total", "Events by what became of them.", "result"),
		Ack:         histogram(reg, "ingest_ack_seconds", "From publishing a chunk to its PubAck.", ackBuckets).WithLabelValues().(prometheus.Histogram),
		Request:     histogram(reg, "ingest_request_seconds", "From a request's header to its answer.", ackBuckets).WithLabelValues().(prometheus.Histogram),
		Chunks:      counter(reg, "ingest_chunks_total", "Chunks published and acknowledged.").WithLabelValues(),
		ChunkEvents: counter(reg, "ingest_chunk_events_total", "Events in acknowledged chunks.").WithLabelValues(),
		Waiting:     gauge(reg, "ingest_waiting_bytes", "Bytes waiting for the log.").WithLabelValues(),
		LogLost:     counter(reg, "ingest_log_lost_messages_total", "Messages that the log had confirmed to this ingest and has lost.").WithLabelValues(),
		Problems:    counter(reg, "ingest_problems_total", "Requests refused, by problem code.", "code"),
	}
}

// Aggregator is what cmd/aggregator counts.
type Aggregator struct {
	Lag           *prometheus.GaugeVec // events in the log that the warehouse does not have yet
	OldestPending *prometheus.GaugeVec // age of the oldest of them
	InFlight      *prometheus.GaugeVec // bytes of the log between it and the warehouse
	Rows          *prometheus.CounterVec
	Insert        *prometheus.HistogramVec
	Duplicates    prometheus.Counter
	Conflicts     prometheus.Counter
	DeadLetters   *prometheus.CounterVec
	Difference    *prometheus.GaugeVec // accepted − (stored + duplicate + conflict + quarantined); not 0 is an alarm
	Reconciled    prometheus.Gauge     // when the tables were last compared; 0: not yet, by this process
	LogUsed       *prometheus.GaugeVec
	LogLost       *prometheus.GaugeVec // messages it had and has no more; not 0 is an alarm
}

// NewAggregator registers the aggregator metrics.
func NewAggregator(reg prometheus.Registerer) *Aggregator {
	insert := []float64{.005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30}
	return &Aggregator{
		Lag:           gauge(reg, "aggregator_lag_events", "Events in the log that are not in the warehouse yet; messages not read yet are taken for average ones.", "shard"),
		OldestPending: gauge(reg, "aggregator_oldest_pending_seconds", "Age of the oldest event not in the warehouse yet.", "shard"),
		InFlight:      gauge(reg, "aggregator_in_flight_bytes", "Bytes of the log on their way to the warehouse.", "shard"),
		Rows:          counter(reg, "aggregator_rows_total", "Rows inserted.", "target"),
		Insert:        histogram(reg, "aggregator_insert_seconds", "Duration of an insert.", insert, "target"),
		Duplicates:    counter(reg, "duplicates_total", "Events already stored with the same content.").WithLabelValues(),
		Conflicts:     counter(reg, "conflicts_total", "Events whose id is taken by other content.").WithLabelValues(),
		DeadLetters:   counter(reg, "dead_letters_total", "Quarantined events.", "reason"),
		Difference:    gauge(reg, "reconcile_difference", "Events the ledger cannot account for.", "tenant"),
		Reconciled:    gauge(reg, "reconcile_compared_timestamp_seconds", "When reconcile_difference was last found out, as Unix time; 0: not yet, by this process.").WithLabelValues(),
		LogUsed:       gauge(reg, "log_bytes_used_ratio", "Share of the stream's limit in use.", "shard"),
		LogLost:       gauge(reg, "log_lost_messages", "Messages that the log had and has no more, as far as this aggregator knows.", "partition"),
	}
}

// Reporter is what cmd/reporter counts.
type Reporter struct {
	MonthState *prometheus.GaugeVec // 0 open, 1 provisional, 2 closed
	ReportRuns *prometheus.CounterVec
	EmailSend  *prometheus.CounterVec
}

// NewReporter registers the reporter metrics.
func NewReporter(reg prometheus.Registerer) *Reporter {
	return &Reporter{
		MonthState: gauge(reg, "month_state", "0 open, 1 provisional, 2 closed.", "tenant", "month"),
		ReportRuns: counter(reg, "report_runs_total", "Reports run.", "result"),
		EmailSend:  counter(reg, "email_send_total", "E-mails sent.", "result"),
	}
}

func counter(reg prometheus.Registerer, name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	reg.MustRegister(v)
	return v
}

func gauge(reg prometheus.Registerer, name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
	reg.MustRegister(v)
	return v
}

func histogram(reg prometheus.Registerer, name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
	reg.MustRegister(v)
	return v
}
