package ingest

import "net/http"

// Refusal is one way the front door refuses a whole request. The code is stable; the docs are
// generated from Refusals, and those of a single event's fault from usage.Codes.
type Refusal struct {
	Code    string
	Status  int
	Meaning string
	Action  string
}

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
func Refusals() []Refusal {
	const again = "retry after the time in Retry-After with the same ids; nothing is counted twice"
	return []Refusal{
		{codeUnauthorized, http.StatusUnauthorized, "no key, or one that is unknown, revoked or expired", "send Authorization: Bearer with a valid key"},
		{codeScope, http.StatusForbidden, "the key has neither scope events:write nor events:backfill", "use a key with the scope"},
		{codeTenant, http.StatusForbidden, "an event names another tenant than the key belongs to", "remove the attribute tenant, or use that tenant's key"},
		{codeNotFound, http.StatusNotFound, "no such path here", "events go to POST /api/v1/events; everything else is served by the reporter"},
		{codeMethod, http.StatusMethodNotAllowed, "the path takes POST only", "use POST"},
		{codeParameter, http.StatusBadRequest, "a query parameter is unknown or has a value that is not allowed", "the parameters are partial=true|false and replay_of=shard:seq:idx"},
		{codeSlowBody, http.StatusRequestTimeout, "the body did not arrive in time, or the connection broke", "send the body without pausing"},
		{codeBodySize, http.StatusRequestEntityTooLarge, "the body, compressed or not, is larger than the limit (5 MiB)", "send smaller batches"},
		{codeEventCount, http.StatusRequestEntityTooLarge, "more events in one request than the limit (1,000)", "send smaller batches"},
		{codeMediaType, http.StatusUnsupportedMediaType, "the Content-Type is none of those Accept-Post lists", "use one of them"},
		{codeEncoding, http.StatusUnsupportedMediaType, "the Content-Encoding is not gzip, zstd or identity", "use one of them, once"},
		{codeBadEncoding, http.StatusUnprocessableEntity, "the body is not what its Content-Encoding says", "compress it again"},
		{codeBadJSON, http.StatusUnprocessableEntity, "the body is not JSON (RFC 8259)", "send valid JSON; the detail names the place"},
		{codeShape, http.StatusUnprocessableEntity, "the Content-Type promises an object or an array, and the body is the other", "application/json takes both"},
		{codeEvents, http.StatusUnprocessableEntity, "at least one event is invalid; nothing was stored", "mend the events that errors lists, or add ?partial=true to store the others"},
		{codeRate, http.StatusTooManyRequests, "the tenant sends more events than its rate allows", again},
		{codeGuesses, http.StatusTooManyRequests, "too many wrong keys from this address", "use a valid key; the address is let in again after the time in Retry-After"},
		{codeInternal, http.StatusInternalServerError, "a defect of this program", "report it with the correlation_id"},
		{codeOverloaded, http.StatusServiceUnavailable, "too much waits for the log already; nothing was stored", again},
		{codeFull, http.StatusServiceUnavailable, "the log's storage is full; nothing of the request is promised", again},
		{codeLog, http.StatusServiceUnavailable, "the log cannot be reached; nothing was stored", again},
		{codeUnconfirmed, http.StatusServiceUnavailable, "the log did not confirm in time; the events may be stored or not", again},
		{codeUnsafe, http.StatusServiceUnavailable, "the log acknowledges before it writes to disk, and allow_lossy is not set", "the operator sets sync_interval: always on NATS"},
		{codeKeys, http.StatusServiceUnavailable, "the key cannot be checked at the moment", again},
	}
}

// statusOf is the HTTP status of a code of the table.
func statusOf(code string) int {
	for _, r := range Refusals() {
		if r.Code == code {
			return r.Status
		}
	}
	return http.StatusInternalServerError
}
