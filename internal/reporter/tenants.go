package reporter

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/countinghouse/countinghouse/internal/problem"
)

// tenants counts the requests of each tenant that are being served, so that one who asks too much at once
// leaves room for the others.
type tenants struct {
	most int
	mu   sync.Mutex
	busy map[string]int // no entry: none
}

// enter counts a request in, or refuses it. Headers of the refusal are set on h.
func (t *tenants) enter(h http.Header, tenant string) (leave func(), refusal *problem.Problem) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy[tenant] >= t.most {
		// draft-ietf-httpapi-ratelimit-headers; the unit is the draft's own word
		h["RateLimit-Policy"] = []string{fmt.Sprintf(`"requests";q=%d;qu="concurrent-requests"`, t.most)}
		h["RateLimit"] = []string{`"requests";r=0;t=1`}
		h.Set("Retry-After", "1")
		return nil, refuse(codeBusy, fmt.Sprintf("%d requests of the tenant are being served already; retry when one is done", t.most))
	}
	t.busy[tenant]++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.busy[tenant]--; t.busy[tenant] == 0 {
			delete(t.busy, tenant)
		}
	}, nil
}
