package reporter

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

//go:embed docs.html
var docsPage string

//go:embed docs.css
var docsStyle string

// documented is an operation as the page shows it.
type documented struct {
	*huma.Operation
	Tag        string
	Parameters []*huma.Param
	CSV, Files bool // what it answers beside JSON
}

// registerDocs serves the API's own description: the document for programs, and a page for people made
// from it, without scripts and without anything from elsewhere.
func (s *server) registerDocs() {
	document, page := s.describe()
	sum := sha256.Sum256([]byte(docsStyle))
	policy := "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	s.mux.HandleFunc("GET "+prefix+"/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.oai.openapi+json;version=3.1")
		_, _ = w.Write(document) // the client is gone if this fails
	})
	s.mux.HandleFunc("GET "+prefix+"/docs", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", policy)
		_, _ = w.Write(page)
	})
}

// describe renders both forms. It panics on a defect of the embedded page, at start.
func (s *server) describe() (document, page []byte) {
	api := s.api.OpenAPI()
	document, err := json.MarshalIndent(api, "", "  ")
	if err != nil {
		panic("openapi: " + err.Error())
	}
	var all []documented
	for _, item := range api.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op != nil {
				d := documented{Operation: op, Tag: op.Tags[0], Parameters: op.Parameters}
				if ok := op.Responses["200"]; ok != nil {
					d.CSV, d.Files = ok.Content[csvType] != nil, ok.Content[sheet.FormatParquet.MediaType()] != nil
				}
				all = append(all, d)
			}
		}
	}
	slices.SortFunc(all, func(a, b documented) int {
		return cmp.Or(strings.Compare(a.Tag, b.Tag), strings.Compare(a.Path, b.Path), strings.Compare(a.Method, b.Method))
	})
	var b bytes.Buffer
	t := template.Must(template.New("docs").Parse(docsPage))
	err = t.Execute(&b, map[string]any{
		"Title": api.Info.Title, "Description": api.Info.Description, "Prefix": prefix, "Operations": all,
		"Refusals": Refusals(), "Style": template.CSS(docsStyle), //nolint:gosec // embedded, ours
	})
	if err != nil {
		panic("docs: " + err.Error())
	}
	return document, b.Bytes()
}
