package ingest

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/telemetry"
)

// eventsPath is the one path of the public port.
const eventsPath = "/api/v1/events"

// front is the HTTP handler.
type front struct {
	cfg       *Config
	keys      verifier
	commit    *committer
	tenants   *tenants
	guesses   *guesses
	scratches *scratches
	metrics   *telemetry.Ingest
	tracer    *telemetry.Tracer // nil: off
	logger    *zap.Logger
	now       func() time.Time
	reachable func() error              // nil while the log is connected and its streams are known
	unreached atomic.Pointer[time.Time] // since when it is not; nil: it is, as far as requests have seen

	requests atomic.Int64
	fullAt   atomic.Pointer[time.Time] // when the log last had no room; nil: never
}

func newFront(cfg *Config, keys verifier, commit *committer, metrics *telemetry.Ingest, now func() time.Time, reachable func() error, logger *zap.Logger) *front {
	return &front{
		cfg: cfg, keys: keys, commit: commit, metrics: metrics, logger: logger, now: now, reachable: reachable,
		tenants:   &tenants{cfg: cfg.Limit, all: &budget{most: cfg.Limit.WaitingBytes}, byID: map[string]*tenant{}},
		guesses:   &guesses{perMinute: cfg.Limit.Guesses, most: guessAddresses, byAddr: map[string]*rate.Limiter{}, good: map[[sha256.Size]byte]struct{}{}},
		scratches: newScratches(cfg.usageLimits()),
	}
}

// guessAddresses is how many addresses with wrong keys are remembered, about 200 bytes each.
const guessAddresses = 10_000

// outcome is the body of a 202.
type outcome struct {
	Accepted      int            `json:"accepted"`
	Rejected      int            `json:"rejected"`
	CorrelationID string         `json:"correlation_id"`
	Errors        []problem.Item `json:"errors"`
}

func (s *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	correlation := newCorrelation()
	defer func() {
		if v := recover(); v != nil {
			s.logger.Error("request panicked", zap.Any("panic", v), zap.String("correlation_id", correlation), zap.ByteString("stack", debug.Stack()))
			s.refuse(w, refuse(codeInternal, "a defect of this program").Correlated(correlation))
		}
	}()
	switch {
	case r.URL.Path != eventsPath:
		s.refuse(w, refuse(codeNotFound, "events go to POST "+eventsPath).Correlated(correlation))
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		s.refuse(w, refuse(codeMethod, "events are sent with POST; what became of one is told by the reporter").Correlated(correlation))
		return
	}
	ctx, span := s.tracer.Request(r.Context(), "POST "+eventsPath, r.Header)
	if span != nil {
		r = r.WithContext(ctx)
		defer span.End(nil) // whatever panics
	}
	out, refusal := s.take(w, r, correlation)
	if refusal != nil {
		s.refuse(w, refusal.Correlated(correlation))
		span.Int("http.response.status_code", refusal.Status)
	} else {
		faultpoint.Hit("ingest/before-answer")
		s.accept(w, out)
		span.Int("http.response.status_code", http.StatusAccepted)
		span.Int("countinghouse.events", out.Accepted)
	}
	s.metrics.Waiting.Set(float64(s.tenants.all.used.Load()))
	s.metrics.Request.Observe(time.Since(began).Seconds())
}

// newCorrelation is the id of the request and of its events that have none: a UUIDv7.
func newCorrelation() string {
	id, err := uuid.NewV7()
	if err != nil { // the system's random source failed: crypto/rand ends the process before that
		id = uuid.New()
	}
	return id.String()
}

func (s *front) refuse(w http.ResponseWriter, p *problem.Problem) {
	s.metrics.Problems.WithLabelValues(p.Code).Inc()
	h := w.Header()
	if p.Status == http.StatusRequestEntityTooLarge || p.Status == http.StatusRequestTimeout {
		h.Set("Connection", "close") // the rest of the body is not worth reading
	}
	problem.Write(w, p)
}

func (s *front) accept(w http.ResponseWriter, o outcome) {
	w.Header()["Content-Type"] = jsonType
	w.WriteHeader(http.StatusAccepted)
	var body []byte
	if len(o.Errors) == 0 { // nearly always
		body = make([]byte, 0, 128)
		body = strconv.AppendInt(append(body, `{"accepted":`...), int64(o.Accepted), 10)
		body = append(append(body, `,"rejected":0,"correlation_id":"`...), o.CorrelationID...)
		body = append(body, `","errors":[]}`+"\n"...)
	} else {
		var err error
		if body, err = json.Marshal(o); err != nil { // strings and ints only: cannot happen
			s.logger.Error("answer not encoded", zap.Error(err))
		}
		body = append(body, '\n')
	}
	_, _ = w.Write(body) // the client is gone if this fails; it will send again
}

var jsonType = []string{"application/json"}

// fullShown is how long a refusal for want of room is told about: until the next would have come.
const fullShown = time.Minute

// room says that the log refused for want of room a moment ago. It is told and changes nothing: other partitions may
// have room, and whoever is refused learns more from 503 storage-full than from a port that nobody may ask.
func (s *front) room() error {
	if at := s.fullAt.Load(); at != nil && s.now().Sub(*at) < fullShown {
		return errNoRoom
	}
	return nil
}

var errNoRoom = errors.New("the log's storage is full: requests are answered 503 storage-full; see the runbook: CountinghouseLogAlmostFull")
