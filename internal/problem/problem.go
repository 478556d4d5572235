// Package problem is the one shape every refusal of this product has over HTTP: RFC 9457
// application/problem+json with a stable code.
//
// Guarantee: `type` and `code` never change for the same refusal; `detail` is for people and may.
// A problem never carries another tenant's data, a secret, or the text of an internal error.
package problem

import (
	"encoding/json"
	"net/http"
	"strings"
)

// ContentType is the media type of a problem.
const ContentType = "application/problem+json"

// Problem is the body of a refusal.
type Problem struct {
	Type          string `json:"type" example:"urn:countinghouse:problem:not-settled" doc:"Stable URI of this kind of problem"`
	Title         string `json:"title" example:"Conflict" doc:"The status in words"`
	Status        int    `json:"status" example:"409" doc:"HTTP status code"`
	Detail        string `json:"detail" doc:"What is wrong and what to do, for people"`
	Code          string `json:"code" example:"not-settled" doc:"Stable code, for programs"`
	Errors        []Item `json:"errors,omitempty" doc:"Every single fault, where there are several or they have a place"`
	CorrelationID string `json:"correlation_id,omitempty" doc:"Names this request in the log lines"`
}

// Item is one fault within a request.
type Item struct {
	Index     *int   `json:"index,omitempty" doc:"Index of the event in the batch"`
	Pointer   string `json:"pointer,omitempty" doc:"JSON pointer into the event"`
	Parameter string `json:"parameter,omitempty" doc:"Name of the query parameter"`
	Code      string `json:"code" doc:"Stable code"`
	Detail    string `json:"detail" doc:"For people"`
}

// New is a problem with the given status and stable code.
func New(status int, code, detail string) *Problem {
	return &Problem{
		Type:   "urn:countinghouse:problem:" + code,
		Title:  http.StatusText(status),
		Status: status,
		Detail: detail,
		Code:   code,
	}
}

// With adds faults and returns p.
func (p *Problem) With(items ...Item) *Problem {
	p.Errors = append(p.Errors, items...)
	return p
}

// Correlated names the request and returns p.
func (p *Problem) Correlated(id string) *Problem {
	p.CorrelationID = id
	return p
}

// Error is the problem on one line.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Code)
	b.WriteString(": ")
	b.WriteString(p.Detail)
	for _, e := range p.Errors {
		place := e.Pointer + e.Parameter
		if strings.Contains(p.Detail, e.Detail) && (strings.Contains(p.Detail, place) || len(p.Errors) == 1 && p.Detail == e.Detail) {
			continue // the detail has said it
		}
		b.WriteString("; " + place + " " + e.Detail)
	}
	return b.String()
}

// GetStatus makes a problem an error an API framework can write.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is application/problem+json whatever the client accepts.
func (p *Problem) ContentType(string) string { return ContentType }

// Write answers with the problem. Headers already set (Retry-After, WWW-Authenticate) are kept.
func Write(w http.ResponseWriter, p *Problem) {
	body, err := json.Marshal(p)
	if err != nil { // strings and ints only: cannot happen
		http.Error(w, p.Code, p.Status)
		return
	}
	w.Header().Set("Content-Type", ContentType)
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n')) // the client is gone if this fails
}
