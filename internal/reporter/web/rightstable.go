package web

import "github.com/countinghouse/countinghouse/internal/access"

// Page is an entry of the table of pages: whoever has the right may open it.
type Page struct {
	Pattern string // of http.ServeMux, with its method
	Right   access.Right
	Proof   bool // changes money or rights: for who proved who they are a moment ago
}

// Table is the table of rights of the pages, beside access.Operations for the API. Signing in and out, one's own
// password and the colours need no right.
func Table() []Page {
	var all []Page
	for _, p := range pages() {
		all = append(all, Page{p.pattern, access.Right{Entity: p.entity, Verb: p.verb}, p.proof})
	}
	return all
}
