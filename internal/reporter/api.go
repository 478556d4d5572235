package reporter

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/months"
	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/reporter/guard"
	"github.com/countinghouse/countinghouse/internal/reporter/jobs"
	"github.com/countinghouse/countinghouse/internal/reporter/schedules"
	"github.com/countinghouse/countinghouse/internal/reporter/signin"
	"github.com/countinghouse/countinghouse/internal/telemetry"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

const prefix = "/api/v1"

// server is the HTTP surface, without the port.
type server struct {
	log     *zap.Logger
	tracer  *telemetry.Tracer // nil: off
	reports *report.Reports
	months  *months.Keeper
	keys    *control.Store
	jobs    *jobs.Desk

	schedules *schedules.Book

	audit   Auditor
	runs    *prometheus.CounterVec // reports by result
	cursors cursors
	now     func() time.Time
	slots   chan struct{} // one per request served at a time
	tenants *tenants
	limit   LimitConfig
	wait    HTTPConfig
	pulse   *pulse

	auditing chan struct{} // one audit at a time: it reads everything

	needs  map[string]access.Need // by operation
	signIn *signin.Service        // nil: keys only
	people *control.People
	site   http.Handler // every path that is not of the API; nil: none

	api huma.API
	mux *http.ServeMux
}

// Auditor compares the log with the warehouse (I15).
type Auditor interface {
	// Certificate is the completeness certificate as a JSON object with a member ok, which is false where
	// a difference was found; tenant "" is every tenant, month "" every month.
	Certificate(ctx context.Context, tenant, month string) (json.RawMessage, error)
	months.Auditor
}

type contextKey int

const (
	callerKey contextKey = iota
	correlationKey
	csvKey
	queryKey  // the query string, of reports
	formatKey // of reports
)

func correlationOf(ctx context.Context) string {
	id, _ := ctx.Value(correlationKey).(string)
	return id
}

// newServer builds the API.
func newServer(s *server) http.Handler {
	s.mux = http.NewServeMux()
	s.needs = access.Operations()
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "Countinghouse reporter",
				Version:     "1",
				Description: apiDescription,
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"key":     {Type: "http", Scheme: "bearer", Description: "API key: Authorization: Bearer <key>"},
					"session": {Type: "apiKey", In: "cookie", Name: "countinghouse-session", Description: "An operator signed in; what changes something needs X-CSRF-Token"},
				},
			},
		},
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat, csvType: {Marshal: writeCSV}},
		DefaultFormat: "application/json",
	}
	s.api = humago.NewWithPrefix(s.mux, prefix, config)
	s.registerUsage()
	s.registerMonths()
	s.registerEvents()
	s.registerReports()
	s.registerJobs()
	s.registerSchedules()
	s.registerExplain()
	s.registerLedger()
	s.registerKeys()
	s.registerRoles()
	s.registerOperators()
	s.registerAuditLog()
	s.registerDocs()
	s.mux.HandleFunc("/", s.elsewhere)
	return http.HandlerFunc(s.serve)
}

// elsewhere answers what no operation does: the pages, the other methods of a path, and paths that do not exist.
func (s *server) elsewhere(w http.ResponseWriter, r *http.Request) {
	if s.site != nil && !strings.HasPrefix(r.URL.Path, "/api/") {
		s.site.ServeHTTP(w, r)
		return
	}
	if methods := allowed(s.mux, r); len(methods) > 0 {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		problem.Write(w, refuse(codeMethod, "the path does not take "+r.Method).Correlated(correlationOf(r.Context())))
		return
	}
	detail := "no such path; the API is described at " + prefix + "/docs"
	if name, isReport := strings.CutPrefix(r.URL.Path, prefix+"/reports/"); isReport {
		var names []string
		for _, d := range report.Definitions() {
			names = append(names, d.Name)
		}
		detail = "no report " + name + "; there are " + strings.Join(names, ", ")
	}
	problem.Write(w, refuse(codeNotFound, detail).Correlated(correlationOf(r.Context())))
}

const apiDescription = "Usage, months and the fate of events. Decimals are strings, times RFC 3339 in UTC. " +
	"Everything read belongs to the tenant of the key; an answer counts at least every event at or below its watermark. " +
	"Where an answer has rows, `Accept: text/csv` or `format=csv` gives them as CSV (RFC 4180, CRLF, formula-safe). " +
	"Refusals are application/problem+json (RFC 9457) with a stable code."

// serve is the frame around every request: correlation, no caching, a bound, a defect caught.
func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	correlation := uuid.Must(uuid.NewV7()).String()
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Correlation-Id", correlation)
	r = r.WithContext(context.WithValue(r.Context(), correlationKey, correlation))
	p := &patience{ResponseWriter: w, wait: s.wait.ReadWait, last: time.Now().Add(s.wait.AnswerWait)}
	defer func() {
		defect := recover()
		switch {
		case defect == nil:
			return
		case defect != http.ErrAbortHandler: //nolint:errorlint // the sentinel itself is panicked
			s.log.Error("request panicked", zap.Any("panic", defect), zap.Stack("stack"), zap.String("correlation_id", correlation))
			if !p.begun {
				problem.Write(w, refuse(codeInternal, "a defect of this program").Correlated(correlation))
				return
			}
		}
		panic(http.ErrAbortHandler) // breaks the connection: what was written must not pass for a whole answer
	}()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		h.Set("Retry-After", "1")
		problem.Write(w, refuse(codeOverloaded, "too many requests at once; retry").Correlated(correlation))
		return
	}
	s.traced(p, r)
}

// traced is the request within its span, which is named by the route: paths may hold what producers wrote.
func (s *server) traced(w http.ResponseWriter, r *http.Request) {
	ctx, span := s.tracer.Request(r.Context(), "HTTP "+r.Method, r.Header)
	if span != nil {
		r = r.WithContext(ctx)
		defer func() {
			span.Text("http.route", r.Pattern)
			span.End(nil)
		}()
	}
	s.mux.ServeHTTP(w, r)
}

// allowed are the methods that the path takes: none where there is no such path.
func allowed(mux *http.ServeMux, r *http.Request) []string {
	var methods []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := mux.Handler(other); pattern != "" && pattern != "/" {
			methods = append(methods, method)
		}
	}
	return methods
}

// endpoint is an operation and who may use it.
type endpoint struct {
	huma.Operation
	rows   bool // the answer is a table: CSV can be asked for
	report bool // counted as a report
	files  bool // the answer is a report, in any format of package sheet; it counts itself
	whole  bool // reads everything: no limit for its statements
	soon   bool // somebody looks at it: it ends when ClickHouse gives no sign of life, as pages do
}

// register adds an endpoint. Parameters are strings that the handler reads itself, so that every refusal
// has our shape and says what is allowed.
func register[I, O any](s *server, e endpoint, handle func(ctx context.Context, who caller, in *I) (*O, error)) {
	op := e.Operation
	op.SkipValidateParams, op.SkipValidateBody = true, true
	op.Security = []map[string][]string{{"key": {}}, {"session": {}}}
	op.Description = strings.TrimSpace(op.Description + "\n\nNeeds: " + needText(s.needs[op.OperationID]) + ".")
	op.Responses = map[string]*huma.Response{"default": {
		Description: "Refused", Content: map[string]*huma.MediaType{problem.ContentType: {
			Schema: s.api.OpenAPI().Components.Schemas.Schema(problemType(), true, "Problem"),
		}},
	}}
	op.Middlewares = huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) { s.enter(e, ctx, next) }}
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		who, _ := ctx.Value(callerKey).(caller)
		out, err := handle(ctx, who, in)
		if err != nil {
			err = s.answer(ctx, err)
			out = nil
		}
		if e.report {
			s.runs.WithLabelValues(resultOf(err)).Inc()
		}
		return out, err
	})
	if item := s.api.OpenAPI().Paths[op.Path]; e.rows && item.Get != nil {
		item.Get.Responses["200"].Content[csvType] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	}
}

// needText says what a need asks of a key and of an operator.
func needText(n access.Need) string {
	text := "any key"
	if len(n.Scopes) > 0 {
		text = "scope " + strings.Join(n.Scopes, " or ")
	}
	rights := []string{}
	for _, r := range n.Rights {
		rights = append(rights, r.String())
	}
	if len(rights) == 0 {
		rights = []string{"any role"}
	}
	text += "; of an operator: " + strings.Join(rights, " and ")
	for _, r := range n.Export {
		text += ", as a file " + r.String()
	}
	if n.Proof {
		text += ", and a proof of who they are"
	}
	return text
}

// enter lets a request in: its key, its parameters, its format.
func (s *server) enter(e endpoint, ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	who, refusal := s.authenticate(r, w.Header(), e.OperationID)
	if refusal == nil {
		var leave func()
		if leave, refusal = s.tenants.enter(w.Header(), who.Tenant); refusal == nil {
			defer leave()
		}
	}
	if refusal == nil {
		refusal = checkParameters(ctx.Operation(), r)
	}
	var format sheet.Format
	switch {
	case refusal != nil:
	case e.files:
		format, refusal = reportFormat(r)
	default:
		refusal = chooseFormat(e, r)
	}
	if refusal != nil {
		problem.Write(w, refusal.Correlated(correlationOf(r.Context())))
		return
	}
	ct, err := s.api.Negotiate(r.Header.Get("Accept"))
	if !e.whole {
		ctx = huma.WithContext(ctx, warehouse.Bounded(ctx.Context(), warehouse.Bounds{Time: s.limit.QueryTime, Memory: s.limit.QueryMemory}))
	}
	if e.soon {
		ctx = huma.WithContext(ctx, s.pulse.attentive(ctx.Context()))
	}
	if who.viewer != nil {
		ctx = huma.WithContext(ctx, guard.For(ctx.Context(), s.reports, who.viewer))
	}
	ctx = huma.WithContext(ctx, control.From(ctx.Context(), who.address))
	ctx = huma.WithValue(huma.WithValue(ctx, queryKey, map[string][]string(r.URL.Query())), formatKey, format)
	next(huma.WithValue(huma.WithValue(ctx, callerKey, who), csvKey, err == nil && ct == csvType))
}

// repeatable parameters are lists.
var repeatable = []string{"account", "group_by"}

// checkParameters refuses what the operation does not know, every one by name.
func checkParameters(op *huma.Operation, r *http.Request) *problem.Problem {
	var known []string
	for _, p := range op.Parameters {
		if p.In == "query" {
			known = append(known, p.Name)
		}
	}
	query, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return refuse(codeParameter, "the query string cannot be read: "+err.Error())
	}
	var items []problem.Item
	for _, name := range sortedNames(query) {
		switch {
		case !slices.Contains(known, name):
			detail := "no such parameter"
			if len(known) > 0 {
				detail += "; known: " + strings.Join(known, ", ")
			}
			items = append(items, problem.Item{Parameter: name, Code: codeUnknown, Detail: detail})
		case len(query[name]) > 1 && !slices.Contains(repeatable, name):
			items = append(items, problem.Item{Parameter: name, Code: codeParameter, Detail: "given more than once"})
		}
	}
	if len(items) == 0 {
		return nil
	}
	p := refuse(items[0].Code, "parameter "+items[0].Parameter+": "+items[0].Detail)
	return p.With(items...)
}

// chooseFormat makes the parameter format and the header Accept one.
func chooseFormat(e endpoint, r *http.Request) *problem.Problem {
	switch format := r.URL.Query().Get("format"); {
	case !e.rows, format == "json":
		r.Header.Set("Accept", "application/json")
	case format == "csv":
		r.Header.Set("Accept", csvType)
	case format != "":
		return wrong("format", "want json or csv")
	}
	return nil
}

// wantsCSV reports whether the answer will be CSV.
func wantsCSV(ctx context.Context) bool {
	csv, _ := ctx.Value(csvKey).(bool)
	return csv
}
