package reporter

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/months"
	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/reporter/jobs"
	"github.com/countinghouse/countinghouse/internal/reporter/schedules"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

const (
	codeUnauthorized = "unauthorized"
	codeScope        = "missing-scope"
	codeForbidden    = "forbidden"
	codeProof        = "prove-again"
	codeForm         = "no-form-token"
	codeField        = "unknown-field"
	codeValue        = "bad-value"
	codeTaken        = "taken"
	codeNotFound     = report.CodeNotFound
	codeMethod       = "method-not-allowed"
	codeParameter    = report.CodeParameter
	codeUnknown      = "unknown-parameter"
	codeCursor       = report.CodeCursor
	codeBody         = "bad-json"
	codeBodySize     = "body-too-large"
	codeRows         = "too-many-rows"
	codeFormat       = "format-limit"
	codeExpensive    = "too-expensive"
	codeBusy         = "too-many-requests"
	codeOverloaded   = "overloaded"
	codeWarehouse    = "warehouse-unavailable"
	codeKeys         = "keys-unavailable"
	codeAudit        = "audit-unavailable"
	codeClose        = "close-refused"
	codeBusyMonth    = "month-busy"
	codeInternal     = "internal"
)

// Refusals lists every code once.
func Refusals() problem.Refusals {
	const again = "retry after the time in Retry-After; reading changes nothing"
	return append(problem.Wire(), problem.Refusals{
		problem.Kind(codeUnauthorized, http.StatusUnauthorized, "no key, or one that is unknown, revoked or expired", "send Authorization: Bearer with a valid key"),
		problem.Kind(codeScope, http.StatusForbidden, "the key lacks the scope the path needs", "use a key with one of the scopes that detail names"),
		problem.Kind(codeForbidden, http.StatusForbidden, "no role of the operator allows this, or not for these accounts", "ask who manages roles; a new role is in force from the next sign-in on"),
		problem.Kind(codeProof, http.StatusForbidden, "changes money or rights, and the operator proved who they are too long ago", "confirm the password at /prove, then repeat the request"),
		problem.Kind(codeForm, http.StatusForbidden, "a session's cookie without the session's token: the request may come from another site", "send X-CSRF-Token, or use an API key"),
		problem.Kind(codeField, http.StatusUnprocessableEntity, "the body has a member that cannot be set", "errors names it; leave it out"),
		problem.Kind(codeValue, http.StatusUnprocessableEntity, "a member of the body has a value that is not allowed", "the detail names it and what is allowed"),
		problem.Kind(codeTaken, http.StatusConflict, "there is one of that name, it is still in use, or somebody changed it at the same time", "look at what is there now"),
		problem.Kind(codeNotFound, http.StatusNotFound, "no such path, or nothing of yours under that name", "see GET /api/v1/docs"),
		problem.Kind(codeMethod, http.StatusMethodNotAllowed, "the path does not take this method", "see GET /api/v1/docs"),
		problem.Kind(codeParameter, http.StatusBadRequest, "a parameter is missing or has a value that is not allowed", "errors names it and the values it may have"),
		problem.Kind(codeUnknown, http.StatusBadRequest, "a query parameter that the path does not have", "errors names it; see GET /api/v1/docs"),
		problem.Kind(codeCursor, http.StatusBadRequest, "a cursor that was not given out for this tenant and path", "start again without cursor"),
		problem.Kind(codeBody, http.StatusBadRequest, "the body is not the JSON object the path takes", "the detail says where"),
		problem.Kind(jobs.CodeEnded, http.StatusConflict, "the job has ended and can no longer be cancelled", "nothing: what it made stays"),
		problem.Kind(jobs.CodeBusy, http.StatusConflict, "others changed the same job or schedule, again and again", "ask again; nothing was changed by this request"),
		problem.Kind(jobs.CodeFull, http.StatusTooManyRequests, "as many jobs of the tenant as it may have are waiting (100)", "cancel some, or wait until some are done"),
		problem.Kind(jobs.CodeNoFile, http.StatusConflict, "the job has no file yet", "ask for the job until it is done"),
		problem.Kind(jobs.CodeRemoved, http.StatusGone, "the file was kept as long as it had to be, and removed", "POST /report-jobs/{id}/regenerate makes it again, to the same bytes"),
		problem.Kind(schedules.CodeFull, http.StatusUnprocessableEntity, "the tenant has as many schedules as it may (500)", "delete some"),
		problem.Kind(codeBodySize, http.StatusRequestEntityTooLarge, "the body is larger than 64 KiB", "send less"),
		problem.Kind(report.CodeNotSettled, http.StatusConflict, "as_of lies beyond what has been counted for certain", "wait, or ask for an earlier as_of"),
		problem.Kind(codeClose, http.StatusConflict, "the month may not be closed; errors names every reason", "see the checklist in GET /api/v1/months/{month}, and docs/RUNBOOK.md"),
		problem.Kind(codeBusyMonth, http.StatusConflict, "others closed the month at the same time, again and again", "ask again; nothing was changed by this request"),
		problem.Kind(report.CodeNoVersion, http.StatusNotFound, "the month has no such version", "leave version out for the current state"),
		problem.Kind(codeRows, http.StatusUnprocessableEntity, "the answer would have more rows than the limit (100,000)", "ask for less: a shorter time, a longer window, fewer groups"),
		problem.Kind(codeFormat, http.StatusUnprocessableEntity, "the file format cannot hold the answer: XLSX ends at 1,048,576 rows", "ask for csv or parquet, or for less"),
		problem.Kind(codeExpensive, http.StatusUnprocessableEntity, "ClickHouse ended the question at a limit of this service (30 s, 2 GiB)", "ask for less: a shorter time, a longer window, fewer groups"),
		problem.Kind(codeBusy, http.StatusTooManyRequests, "as many requests of the tenant as it may have are being served (16)", again),
		problem.Kind(codeInternal, http.StatusInternalServerError, "a defect of this program", "report it with the correlation_id"),
		problem.Kind(codeOverloaded, http.StatusServiceUnavailable, "too many requests at once", again),
		problem.Kind(codeWarehouse, http.StatusServiceUnavailable, "ClickHouse cannot be reached or is not ready", again),
		problem.Kind(codeKeys, http.StatusServiceUnavailable, "keys cannot be checked or changed at the moment", again),
		problem.Kind(codeAudit, http.StatusServiceUnavailable, "the audit could not be finished; it says nothing about the data", again),
	}...)
}

func refuse(code, detail string) *problem.Problem { return Refusals().New(code, detail) }

// wrong is a parameter with a value that is not allowed.
func wrong(parameter, detail string) *problem.Problem {
	return refuse(codeParameter, "parameter "+parameter+": "+detail).
		With(problem.Item{Parameter: parameter, Code: codeParameter, Detail: detail})
}

// member is a member of the body with a value that is not allowed.
func member(code, name, detail string) *problem.Problem {
	return refuse(code, name+": "+detail).With(problem.Item{Pointer: "/" + name, Code: code, Detail: detail})
}

// invalid is what the control state refuses to hold.
func invalid(code string, err error) *problem.Problem {
	var bad *control.Refused
	switch {
	case !errors.As(err, &bad):
		return refuse(code, "the value is not allowed")
	case bad.Field == "":
		return refuse(code, bad.Detail)
	}
	return member(code, bad.Field, bad.Detail)
}

// resultOf is the label of a report's end.
func resultOf(err error) string {
	var p huma.StatusError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &p) && p.GetStatus() < http.StatusInternalServerError:
		return "refused"
	}
	return "failed"
}

// answer turns an error into what the client sees. What it does not know is a defect: logged, not told.
func (s *server) answer(ctx context.Context, err error) error {
	correlation := correlationOf(ctx)
	var p *problem.Problem
	var bad *report.Error
	var limit *sheet.LimitError
	var closing *months.Refused
	switch {
	case errors.As(err, &p):
	case errors.As(err, &bad):
		p = refuse(bad.Code, bad.Detail)
		switch {
		case bad.Parameter == "":
		case bad.Code == codeParameter:
			p = wrong(bad.Parameter, bad.Detail)
		default:
			p = p.With(problem.Item{Parameter: bad.Parameter, Code: bad.Code, Detail: bad.Detail})
		}
	case errors.As(err, &limit):
		p = refuse(codeFormat, limit.Error()).With(problem.Item{Parameter: "format", Code: codeFormat, Detail: limit.Detail})
	case errors.As(err, &closing):
		p = closeProblem(closing)
	case errors.Is(err, access.ErrOutside):
		p = refuse(codeNotFound, "nothing of that name is within your reach")
	case errors.Is(err, access.ErrForbidden):
		p = refuse(codeForbidden, "no role of yours allows this for what was asked; whose role is for some accounts names one of them")
	case errors.Is(err, months.ErrAudit):
		s.log.Warn("audit of a month not finished", zap.Error(err), zap.String("correlation_id", correlation))
		p = refuse(codeAudit, "the audit of the month could not be finished; retry")
	case errors.Is(err, control.ErrConflict):
		p = refuse(codeBusyMonth, "others closed the month at the same time; ask again")
	case errors.Is(err, control.ErrUnavailable):
		p = refuse(codeKeys, "the control state cannot be reached; the change may have been made or not: ask again")
	case warehouse.Exceeded(err) != warehouse.Unbounded:
		p = s.exceeded(warehouse.Exceeded(err))
	case warehouse.Unavailable(err):
		s.log.Warn("the warehouse could not answer", zap.Error(err), zap.String("correlation_id", correlation))
		p = refuse(codeWarehouse, "the warehouse cannot answer at the moment; retry")
	default:
		s.log.Error("request failed", zap.Error(err), zap.String("correlation_id", correlation))
		p = refuse(codeInternal, "a defect of this program")
	}
	p = p.Correlated(correlation)
	if p.Status == http.StatusServiceUnavailable {
		return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {"1"}})
	}
	return p
}

// exceeded names the limit that a question ran into.
func (s *server) exceeded(b warehouse.Bound) *problem.Problem {
	const less = ": ask for a shorter time, a longer window or fewer groups"
	switch b {
	case warehouse.BoundRows:
		return refuse(codeRows, fmt.Sprintf("more than %d rows%s", rowsMax, less))
	case warehouse.BoundMemory:
		return refuse(codeExpensive, fmt.Sprintf("it takes more than %d bytes of ClickHouse's memory%s", s.limit.QueryMemory, less))
	}
	return refuse(codeExpensive, fmt.Sprintf("it takes ClickHouse longer than %s%s", s.limit.QueryTime, less))
}
