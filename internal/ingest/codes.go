package ingest

import (
	"net/http"

	"github.com/countinghouse/countinghouse/internal/problem"
)

// Codes of refused requests.
const (
	codeUnauthorized = "unauthorized"
	codeGuesses      = "too-many-guesses"
	codeScope        = "missing-scope"
	codeTenant       = "wrong-tenant"
	codeNotFound     = "not-found"
	codeMethod       = "method-not-allowed"
	codeParameter    = "bad-parameter"
	codeSlowBody     = "body-time-out"
	codeBodySize     = "body-too-large"
	codeEventCount   = "too-many-events"
	codeMediaType    = "unsupported-media-type"
	codeEncoding     = "unsupported-encoding"
	codeBadEncoding  = "bad-encoding"
	codeBadJSON      = "bad-json"
	codeShape        = "wrong-shape"
	codeEvents       = "invalid-events"
	codeRate         = "rate-limited"
	codeInternal     = "internal"
	codeOverloaded   = "overloaded"
	codeFull         = "storage-full"
	codeLog          = "log-unavailable"
	codeUnconfirmed  = "log-unconfirmed"
	codeUnsafe       = "log-unsafe"
	codeKeys         = "keys-unavailable"
)

// Refusals lists every code of a refused request once.
func Refusals() problem.Refusals {
	const again = "retry after the time in Retry-After with the same ids; nothing is counted twice"
	return append(problem.Wire(), problem.Refusals{
		problem.Kind(codeUnauthorized, http.StatusUnauthorized, "no key, or one that is unknown, revoked or expired", "send Authorization: Bearer with a valid key"),
		problem.Kind(codeScope, http.StatusForbidden, "the key has neither scope events:write nor events:backfill, or replay_of without dlq:write", "use a key with the scope"),
		problem.Kind(codeTenant, http.StatusForbidden, "an event names another tenant than the key belongs to", "remove the attribute tenant, or use that tenant's key"),
		problem.Kind(codeNotFound, http.StatusNotFound, "no such path here", "events go to POST /api/v1/events; everything else is served by the reporter"),
		problem.Kind(codeMethod, http.StatusMethodNotAllowed, "the path takes POST only", "use POST"),
		problem.Kind(codeParameter, http.StatusBadRequest, "a query parameter is unknown or has a value that is not allowed", "the parameters are partial=true|false and replay_of=shard:seq:idx"),
		problem.Kind(codeSlowBody, http.StatusRequestTimeout, "the body did not arrive in time, or the connection broke", "send the body without pausing"),
		problem.Kind(codeBodySize, http.StatusRequestEntityTooLarge, "the body, compressed or not, is larger than the limit (5 MiB)", "send smaller batches"),
		problem.Kind(codeEventCount, http.StatusRequestEntityTooLarge, "more events in one request than the limit (1,000)", "send smaller batches"),
		problem.Kind(codeMediaType, http.StatusUnsupportedMediaType, "the Content-Type is none of those Accept-Post lists", "use one of them"),
		problem.Kind(codeEncoding, http.StatusUnsupportedMediaType, "the Content-Encoding is not gzip, zstd or identity", "use one of them, once"),
		problem.Kind(codeBadEncoding, http.StatusUnprocessableEntity, "the body is not what its Content-Encoding says", "compress it again"),
		problem.Kind(codeBadJSON, http.StatusUnprocessableEntity, "the body is not JSON (RFC 8259)", "send valid JSON; the detail names the place"),
		problem.Kind(codeShape, http.StatusUnprocessableEntity, "the Content-Type promises an object or an array, and the body is the other", "application/json takes both"),
		problem.Kind(codeEvents, http.StatusUnprocessableEntity, "at least one event is invalid; nothing was stored", "mend the events that errors lists, or add ?partial=true to store the others"),
		problem.Kind(codeRate, http.StatusTooManyRequests, "the tenant sends more events than its rate allows", again),
		problem.Kind(codeGuesses, http.StatusTooManyRequests, "too many wrong keys from this address", "use a valid key; the address is let in again after the time in Retry-After"),
		problem.Kind(codeInternal, http.StatusInternalServerError, "a defect of this program", "report it with the correlation_id"),
		problem.Kind(codeOverloaded, http.StatusServiceUnavailable, "too much waits for the log already; nothing was stored", again),
		problem.Kind(codeFull, http.StatusServiceUnavailable, "the log's storage is full; nothing of the request is promised", again),
		problem.Kind(codeLog, http.StatusServiceUnavailable, "the log cannot be reached; nothing was stored", again),
		problem.Kind(codeUnconfirmed, http.StatusServiceUnavailable, "the log did not confirm in time; the events may be stored or not", again),
		problem.Kind(codeUnsafe, http.StatusServiceUnavailable, "the log acknowledges before it writes to disk, and allow_lossy is not set", "the operator sets sync_interval: always on NATS"),
		problem.Kind(codeKeys, http.StatusServiceUnavailable, "the key cannot be checked at the moment", again),
	}...)
}
