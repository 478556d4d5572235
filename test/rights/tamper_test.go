package rights_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/localstack"
)

// TestF26 sets what nobody meant to be settable, does what needs a proof without one, and tampers with the audit log.
func TestF26(t *testing.T) {
	h := open(t, 1, nil)
	h.operator("acme", "root", access.Grant{Role: access.SuperAdministrator})
	h.operator("acme", "clerk", access.Grant{Role: access.SCIM})
	bodies := 0
	t.Run("members", func(t *testing.T) { bodies = h.members(t) })
	t.Run("escalation", func(t *testing.T) { h.escalation(t) })
	t.Run("proof", func(t *testing.T) { h.proof(t) })
	broken := 0
	t.Run("tampering", func(t *testing.T) { broken = h.tampering(t) })
	pass(t, fmt.Sprintf("F26 PASS bodies=%d tampered=%d named=%d", bodies, broken, broken))
}

// members sends every operation with a body members that it does not have.
func (h *house) members(t *testing.T) (sent int) {
	c := h.signed("root", "root")
	status, _, answer := c.api(http.MethodPost, "/schedules", `{"name":"s","report":"subscriptions","parameters":{"partner":"A-1"},"recurrence":"Daily","recipients":"ann@example.com"}`)
	var schedule struct{ ID string }
	if err := json.Unmarshal([]byte(answer), &schedule); err != nil || status != http.StatusCreated {
		t.Fatalf("POST /schedules: %d %s", status, answer)
	}
	for n, op := range h.operations() {
		if op.method == http.MethodGet || op.method == http.MethodDelete || strings.HasSuffix(op.path, "able") || strings.HasSuffix(op.path, "/cancel") || strings.HasSuffix(op.path, "/regenerate") {
			continue
		}
		for _, member := range []string{"closed", "price", "revision", "system", "created_by"} {
			about := h.things("acme", "A-2", op.path, 10_000+100*n+sent)
			about.job = schedule.ID
			path, body := op.request(about)
			body = strings.Replace(body+"{}", "{}", "", 1)
			forged := fmt.Sprintf(`{%q:true}`, member)
			if strings.HasPrefix(body, "{") && len(body) > 2 {
				forged = fmt.Sprintf(`{%q:true,%s`, member, body[1:])
			}
			status, _, answer := c.api(op.method, path, forged)
			sent++
			if status != http.StatusUnprocessableEntity || !strings.Contains(answer, `"unknown-field"`) || !strings.Contains(answer, member) {
				t.Errorf("%s %s with %s: %d %s", op.method, path, forged, status, answer)
			}
		}
	}
	for path, body := range map[string]string{
		"/operators": `{"login":"x1","tenant":"other"}`, "/operators ": `{"login":"x1","role":"Super Administrator"}`, "/roles": `{"name":"x","rights":{},"system":true}`,
		"/months/2026-01/close": `{"tenant":"other"}`, "/months/2026-01/close ": `{"closed":true}`, "/months/2026-01/close  ": `{"state":"closed"}`,
	} {
		status, _, answer := c.api(http.MethodPost, strings.TrimSpace(path), body)
		sent++
		if status != http.StatusUnprocessableEntity {
			t.Errorf("POST %s %s: %d %s", path, body, status, answer)
		}
	}
	return sent
}

// escalation: who may make operators makes none that can more than they can, and takes over none.
func (h *house) escalation(t *testing.T) {
	clerk := h.signed("clerk", "clerk")
	if status, _, body := clerk.api(http.MethodPost, "/operators", `{"login":"plain"}`); status != http.StatusCreated {
		t.Errorf("a clerk makes an operator: %d %s", status, body)
	}
	for what, ask := range map[string][3]string{
		"gives a role while making":     {http.MethodPost, "/operators", `{"login":"boss","grants":[{"role":"Super Administrator"}]}`},
		"gives itself a role":           {http.MethodPost, "/operators/clerk/grants", `{"role":"Super Administrator"}`},
		"gives a role":                  {http.MethodPost, "/operators/plain/grants", `{"role":"Auditor"}`},
		"takes over the administrator":  {http.MethodPost, "/operators/root/password", `{"password":"canary-other-password"}`},
		"binds the administrator":       {http.MethodPatch, "/operators/root", `{"subject":"https://evil.example.com|me"}`},
		"disables the administrator":    {http.MethodPost, "/operators/root/disable", ``},
		"makes a role that can all":     {http.MethodPost, "/roles", `{"name":"All","rights":{"keys":["all"]}}`},
		"makes a key":                   {http.MethodPost, "/keys", `{"scopes":["admin"]}`},
		"takes a role of the root away": {http.MethodDelete, "/operators/root/grants?role=Super+Administrator", ``},
	} {
		if status, _, body := clerk.api(ask[0], ask[1], ask[2]); status != http.StatusForbidden {
			t.Errorf("a clerk %s: %d %s", what, status, body)
		}
	}
	root := h.signed("root", "root")
	for what, ask := range map[string][2]string{
		"usage-report in a role": {"/roles", `{"name":"Mine","rights":{"usage-report":["view"]}}`},
		"a system role's name":   {"/roles", `{"name":"auditor","rights":{}}`},
		"an unknown entity":      {"/roles", `{"name":"Mine","rights":{"everything":["all"]}}`},
		"an unknown verb":        {"/roles", `{"name":"Mine","rights":{"usage":["own"]}}`},
	} {
		if status, _, body := root.api(http.MethodPost, ask[0], ask[1]); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", what, status, body)
		}
	}
	if status, _, body := root.api(http.MethodPut, "/roles/Auditor", `{"rights":{"months":["all"]}}`); status != http.StatusUnprocessableEntity {
		t.Errorf("editing a system role: %d %s", status, body)
	}
	// A schedule that comes with a job takes the right to make schedules.
	h.operator("acme", "reports", access.Grant{Role: access.ReportsRole})
	reports := h.signed("reports", "reports")
	const job = `{"report":"asset-monthly-costs","parameters":{"organization":"A-2","month":"2026-01"}%s}`
	if status, _, body := reports.api(http.MethodPost, "/report-jobs", fmt.Sprintf(job, "")); status != http.StatusAccepted {
		t.Errorf("a job of the role Reports: %d %s", status, body)
	}
	if status, _, body := reports.api(http.MethodPost, "/report-jobs", fmt.Sprintf(job, `,"schedule":{"name":"s","recurrence":"Monthly","recipients":"ann@example.com"}`)); status != http.StatusForbidden || !strings.Contains(body, "schedules:add") {
		t.Errorf("a schedule without the right to make one: %d %s", status, body)
	}
	// What a role allows is settled when the session begins (B-07).
	if status, _, body := root.api(http.MethodPost, "/roles", `{"name":"Looker","rights":{"months":["view"]}}`); status != http.StatusCreated {
		t.Fatalf("make a role: %d %s", status, body)
	}
	h.operator("acme", "looker", access.Grant{Role: "Looker"})
	looker := h.signed("looker", "looker")
	if status, _, body := root.api(http.MethodPut, "/roles/Looker", `{"rights":{"keys":["view"]}}`); status != http.StatusOK {
		t.Fatalf("edit a role: %d %s", status, body)
	}
	for path, want := range map[string]int{"/months": http.StatusOK, "/keys": http.StatusForbidden} {
		if status, _, _ := looker.api(http.MethodGet, path, ""); status != want {
			t.Errorf("GET %s in the session that began before: %d, want %d", path, status, want)
		}
	}
	looker = h.signed("looker", "looker")
	for path, want := range map[string]int{"/months": http.StatusForbidden, "/keys": http.StatusOK} {
		if status, _, _ := looker.api(http.MethodGet, path, ""); status != want {
			t.Errorf("GET %s after the next sign-in: %d, want %d", path, status, want)
		}
	}
}

// proof: what changes money or rights is refused to who proved who they are too long ago.
func (h *house) proof(t *testing.T) {
	c := h.signed("root", "root")
	h.age(t, c, access.ProofMax+time.Minute)
	refused := func() bool {
		status, _, body := c.api(http.MethodPost, "/months/2026-01/close", "")
		return status == http.StatusForbidden && strings.Contains(body, "prove-again")
	}
	h.until("the proof is too old", refused)
	for path, body := range map[string]string{
		"/operators": `{"login":"late"}`, "/roles": `{"name":"Late","rights":{}}`, "/keys": `{"scopes":["usage:read"]}`, "/operators/clerk/grants": `{"role":"Auditor"}`,
	} {
		if status, _, answer := c.api(http.MethodPost, path, body); status != http.StatusForbidden || !strings.Contains(answer, "prove-again") {
			t.Errorf("POST %s without a proof: %d %s", path, status, answer)
		}
	}
	if status, _, _ := c.api(http.MethodGet, "/operators", ""); status != http.StatusOK {
		t.Errorf("looking needs no proof: %d", status)
	}
	if status, _, _ := c.post("/prove", url.Values{"token": {c.form}, "password": {"not-the-password"}}); status != http.StatusUnauthorized {
		t.Errorf("proved with a wrong password: %d", status)
	}
	if status, _, body := c.post("/prove", url.Values{"token": {c.form}, "password": {password}, "next": {"/months"}}); status != http.StatusSeeOther {
		t.Errorf("prove: %d %s", status, body)
	}
	if status, _, body := c.api(http.MethodPost, "/keys", `{"scopes":["usage:read"]}`); status != http.StatusCreated {
		t.Errorf("after the proof: %d %s", status, body)
	}
}

// age makes a session's proof older.
func (h *house) age(t *testing.T, c *caller, by time.Duration) {
	t.Helper()
	kv, err := jetStream(t, h.stack.NATSURL).KeyValue(t.Context(), "SESSIONS")
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse("http://" + h.apps[c.app].Addr())
	sum := sha256.Sum256([]byte(c.client.Jar.Cookies(u)[0].Value))
	key := hex.EncodeToString(sum[:])
	entry, err := kv.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	var session map[string]any
	if err := json.Unmarshal(entry.Value(), &session); err != nil {
		t.Fatal(err)
	}
	session["proven"] = time.Now().Add(-by).UTC()
	value, _ := json.Marshal(session) // read a moment ago
	if _, err := kv.Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

// logged is a message of CONTROL.
type logged struct {
	subject string
	data    []byte
}

// tampering copies the control state to other servers, each time with something done to it, and proves the copy.
func (h *house) tampering(t *testing.T) (named int) {
	var messages []logged
	h.until("every change has its entry", func() bool { // a job of the tests before may be under way, between the two
		messages = readControl(t, h.stack.NATSURL)
		return proven(t, h.store).OK() && len(readControl(t, h.stack.NATSURL)) == len(messages)
	})
	var entries []int
	for n, m := range messages {
		if m.subject == "control.audit.acme" {
			entries = append(entries, n)
		}
	}
	if len(entries) < 10 {
		t.Fatalf("%d entries in the audit log", len(entries))
	}
	middle, last := entries[len(entries)/2], entries[len(entries)-1]
	number := uint64(len(entries)/2 + 1)
	state := -1
	for n, m := range messages {
		if strings.HasPrefix(m.subject, "control.operator.") {
			state = n
			break
		}
	}
	replaced := func(n int, old, by string) func([]logged) []logged {
		return func(all []logged) []logged {
			all[n].data = []byte(strings.Replace(string(all[n].data), old, by, 1))
			return all
		}
	}
	tests := map[string]struct {
		do      func([]logged) []logged
		broken  uint64 // number of the first broken link; 0: none
		missing bool
		alone   bool // a change is without an entry; where an entry is taken out it may be one that tells of none
	}{
		"nothing":               {do: func(all []logged) []logged { return all }},
		"an entry edited":       {do: replaced(middle, `"by":"`, `"by":"somebody-else-than-`), broken: number},
		"an entry taken out":    {do: func(all []logged) []logged { return append(all[:middle:middle], all[middle+1:]...) }, broken: number},
		"the last entry edited": {do: replaced(last, `"action":"`, `"action":"not-`), broken: uint64(len(entries))},
		"the first taken out":   {do: func(all []logged) []logged { return append(all[:entries[0]:entries[0]], all[entries[0]+1:]...) }, broken: 1},
		"two entries exchanged": {do: func(all []logged) []logged { all[middle], all[last] = all[last], all[middle]; return all }, broken: number},
		"an operator edited":    {do: replaced(state, `"name":"`, `"name":"Mallory `), missing: true, alone: true},
		"an operator smuggled in": {do: func(all []logged) []logged {
			return append(all, logged{"control.operator.00000000000000000000000000000000", []byte(strings.Replace(string(all[state].data), `"login":"`, `"login":"mallory`, 1))})
		}, alone: true},
	}
	for name, tt := range tests {
		copied := make([]logged, len(messages))
		copy(copied, messages)
		proof := h.prove(t, tt.do(copied))
		got := uint64(0)
		if proof.Broken != nil {
			got = proof.Broken.Number
		}
		if got != tt.broken || (len(proof.Missing) > 0) != tt.missing {
			t.Errorf("%s: %+v %v, want the link %d broken, missing %t", name, proof, proof.Broken, tt.broken, tt.missing)
		}
		if tt.alone && len(proof.Unrecorded) == 0 {
			t.Errorf("%s: nothing without an entry", name)
		}
		if (name == "nothing") != proof.OK() {
			t.Errorf("%s: ok %t", name, proof.OK())
		}
		if name != "nothing" {
			named++
		}
	}
	return named
}

// jetStream is a connection that is no reporter's.
func jetStream(t *testing.T, at string) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func readControl(t *testing.T, at string) []logged {
	t.Helper()
	stream, err := jetStream(t, at).Stream(t.Context(), "CONTROL")
	if err != nil {
		t.Fatal(err)
	}
	var all []logged
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		m, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, logged{m.Subject, m.Data})
	}
	return all
}

// prove is the proof of acme's log over another server that has these messages.
func (h *house) prove(t *testing.T, messages []logged) control.LogProof {
	t.Helper()
	n, err := localstack.StartNATS(localstack.NATSConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Stop()
	cfg := control.DefaultConfig()
	cfg.URL = n.URL()
	store, err := control.Dial(t.Context(), cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, _, err := store.Create(t.Context(), "maker", "makes the stream", []string{"usage:read"}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	js := jetStream(t, n.URL())
	for _, m := range messages {
		if _, err := js.Publish(t.Context(), m.subject, m.data); err != nil {
			t.Fatal(err)
		}
	}
	return proven(t, store)
}

// proven is the proof of acme's log an hour from now: what has no entry then never gets one.
func proven(t *testing.T, store *control.Client) control.LogProof {
	t.Helper()
	proofs, err := store.VerifyLogAt(t.Context(), "acme", "", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range proofs {
		if p.Tenant == "acme" {
			return p
		}
	}
	t.Fatal("no proof of acme")
	return control.LogProof{}
}
