package problem

import "net/http"

// Refusal is one way a service refuses a whole request. The code is stable; the reference is generated
// from the services' tables, and that of a single event's fault from usage.Codes.
type Refusal struct {
	Code    string
	Status  int
	Meaning string
	Action  string // what the client can do
}

// Kind is a row of the table.
func Kind(code string, status int, meaning, action string) Refusal {
	return Refusal{Code: code, Status: status, Meaning: meaning, Action: action}
}

// Refusals is the table of a service, each code once.
type Refusals []Refusal

// New is the problem of a code of the table. A code that is not in it is a defect of ours: 500.
func (t Refusals) New(code, detail string) *Problem {
	for i := range t {
		if t[i].Code == code {
			return New(t[i].Status, code, detail)
		}
	}
	return New(http.StatusInternalServerError, "internal", "a defect of this program")
}
