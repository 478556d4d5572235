package reporter

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/negotiation"

	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

// reportFormat is the format of a report: the parameter format or, without it, the header Accept; JSON if
// that names none of ours.
func reportFormat(r *http.Request) (sheet.Format, *problem.Problem) {
	if name := r.URL.Query().Get("format"); name != "" {
		f, ok := sheet.Parse(name)
		if !ok {
			return f, wrong("format", "want "+sheet.FormatNames())
		}
		return f, nil
	}
	var types []string
	for _, f := range sheet.Formats() {
		types = append(types, f.MediaType())
	}
	if i := slices.Index(types, negotiation.SelectQValue(r.Header.Get("Accept"), types)); i >= 0 {
		return sheet.Formats()[i], nil
	}
	return sheet.FormatJSON, nil
}

// fileHeader describes a file that follows.
func fileHeader(h http.Header, f sheet.Format, a *reportAnswer) {
	h.Set("Content-Type", tableType(f.MediaType()))
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": sheet.FileName(a.FileName, f)}))
	h.Set("X-As-Of", a.AsOf.String())
	if a.Version > 0 {
		h.Set("X-Version", strconv.Itoa(a.Version))
	}
	if a.State != "" {
		h.Set("X-Month-State", a.State)
	}
	var positions []string
	for _, shard := range sortedKeys(a.Positions) {
		positions = append(positions, fmt.Sprintf("%s=%d", shard, a.Positions[shard]))
	}
	h.Set("X-Positions", strings.Join(positions, ","))
	if a.next != nil {
		h.Set("X-Next-Cursor", *a.next)
	}
}

// started is a response whose head is written with its first byte: until then it can still become a refusal.
type started struct {
	http.ResponseWriter
	head  func(http.Header)
	begun bool
}

func (s *started) Write(b []byte) (int, error) {
	if !s.begun {
		s.begun = true
		s.head(s.Header())
	}
	return s.ResponseWriter.Write(b)
}

// stream writes an answer. What fails before the first byte is refused as ever; after it the connection is
// broken, so that nobody takes half a file for a whole one.
func (s *server) stream(ctx context.Context, w http.ResponseWriter, a *reportAnswer, f sheet.Format) {
	result := "failed" // where writing panics: the client is gone
	defer func() { s.runs.WithLabelValues(result).Inc() }()
	out := &started{ResponseWriter: w, head: func(h http.Header) { fileHeader(h, f, a) }}
	err := a.write(out, f)
	if err == nil {
		result = "ok"
		return
	}
	err = s.answer(ctx, err)
	if out.begun {
		panic(http.ErrAbortHandler)
	}
	result = resultOf(err)
	var headers huma.HeadersError
	if errors.As(err, &headers) {
		for name, values := range headers.GetHeaders() {
			w.Header()[name] = values
		}
	}
	var p *problem.Problem
	if errors.As(err, &p) {
		problem.Write(w, p)
	}
}

// write writes an answer in a format.
func (a *reportAnswer) write(out *started, f sheet.Format) error {
	if f == sheet.FormatJSON {
		out.head = func(h http.Header) { h.Set("Content-Type", f.MediaType()) }
		body, err := a.json()
		if err == nil {
			_, err = out.Write(body)
		}
		return err
	}
	t := a.Table
	if a.paged {
		t.Rows = sheet.Of(a.rows)
	}
	return a.Writer(f, a.raw).Write(out, t)
}
