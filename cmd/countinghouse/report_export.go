package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/client"
	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

const (
	terminalRows = 200  // of a table on a terminal
	pageRows     = 1000 // most of a page
)

// showReport shows a report, or writes it to a file.
func (t *tool) showReport(ctx context.Context, d report.Definition, q *reportQuestion, query url.Values) error {
	f, err := t.format()
	if err != nil {
		return err
	}
	c, err := t.reader()
	if err != nil {
		return err
	}
	path := "/reports/" + d.Name
	if q.format == "" && q.out == "" {
		switch f {
		case listing.CSV:
			q.format = string(sheet.FormatCSV)
		case listing.JSON:
			q.format = string(sheet.FormatJSON)
		default:
			return t.tableOfReport(ctx, c, path, query, q.limit)
		}
	}
	format, err := q.fileFormat()
	if err != nil {
		return err
	}
	query.Set("format", string(format))
	return t.export(ctx, c, path, query, format, q.out)
}

// fileFormat is --format, else what the ending of --out says, else CSV.
func (q *reportQuestion) fileFormat() (sheet.Format, error) {
	if q.format != "" {
		f, ok := sheet.Parse(q.format)
		if !ok {
			return f, usageError("--format %s: want %s", q.format, sheet.FormatNames())
		}
		return f, nil
	}
	ending := filepath.Ext(q.out)
	for _, f := range sheet.Formats() {
		if f.Extension() == ending {
			return f, nil
		}
	}
	if info, err := os.Stat(q.out); q.out == "-" || err == nil && info.IsDir() {
		return sheet.FormatCSV, nil
	}
	return "", usageError("--out %s: the ending is none of .csv, .parquet, .xlsx, .json; pass --format", q.out)
}

// export writes a report to stdout or a file.
func (t *tool) export(ctx context.Context, c *client.Client, path string, query url.Values, f sheet.Format, out string) error {
	fetch := func(w io.Writer, head func(http.Header) error) error { return c.Stream(ctx, path, query, w, head) }
	if f == sheet.FormatJSON {
		fetch = func(w io.Writer, head func(http.Header) error) error {
			if err := head(http.Header{}); err != nil {
				return err
			}
			return jsonOfReport(ctx, c, path, query, w)
		}
	}
	if out == "" || out == "-" {
		if terminal(t.out) && (f == sheet.FormatParquet || f == sheet.FormatXLSX) {
			return usageError("%s is no text for a terminal; pass --out FILE", f)
		}
		return fetch(t.out, func(http.Header) error { return nil })
	}
	return t.fetchFile(fetch, &newFile{path: out, ending: f.Extension(), fallback: filepath.Base(path)})
}

// fetchFile writes a file as it comes, and says how large it became.
func (t *tool) fetchFile(fetch func(io.Writer, func(http.Header) error) error, file *newFile) error {
	file.tty, file.progress, file.begun = terminal(t.err), t.err, time.Now()
	defer file.drop()
	if err := fetch(file, file.open); err != nil {
		return err
	}
	if err := file.keep(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(t.err, "%s: %d bytes%s\n", file.path, file.bytes, file.state)
	return err
}

// newFile is written beside its place and moved there when it is whole: nobody finds half of it.
type newFile struct {
	path, ending, fallback string
	state                  string // of the log, as the answer says
	bytes                  int64
	tty                    bool
	progress               io.Writer
	begun, drawn           time.Time
	tmp                    *os.File
}

// open makes the file as soon as there is an answer.
func (n *newFile) open(h http.Header) error {
	if at := h.Get("X-As-Of"); at != "" {
		n.state = ", as of " + at
	}
	if v := h.Get("X-Version"); v != "" {
		n.state += ", version " + v
	}
	if info, err := os.Stat(n.path); err == nil && info.IsDir() {
		name := n.fallback + n.ending
		if _, params, err := mime.ParseMediaType(h.Get("Content-Disposition")); err == nil && params["filename"] != "" {
			name = filepath.Base(params["filename"])
		}
		n.path = filepath.Join(n.path, name)
	}
	var err error
	if n.tmp, err = os.CreateTemp(filepath.Dir(n.path), "."+filepath.Base(n.path)+".*"); err != nil {
		return usageError("--out: %w", err)
	}
	return nil
}

// Write also draws how far it is.
func (n *newFile) Write(b []byte) (int, error) {
	written, err := n.tmp.Write(b)
	n.bytes += int64(written)
	if now := time.Now(); n.tty && now.Sub(n.drawn) >= barEvery && now.Sub(n.begun) >= time.Second {
		n.drawn = now
		fmt.Fprintf(n.progress, "\r\033[K%s  %d MiB", n.path, n.bytes>>20)
	}
	return written, err
}

func (n *newFile) keep() error {
	n.line()
	err := errors.Join(n.tmp.Chmod(0o644), n.tmp.Sync(), n.tmp.Close())
	if err == nil {
		err = os.Rename(n.tmp.Name(), n.path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", n.path, err)
	}
	n.tmp = nil
	return nil
}

// drop removes what was not kept.
func (n *newFile) drop() {
	n.line()
	if n.tmp != nil {
		_ = n.tmp.Close()
		_ = os.Remove(n.tmp.Name())
	}
}

func (n *newFile) line() {
	if !n.drawn.IsZero() {
		fmt.Fprint(n.progress, "\r\033[K")
		n.drawn = time.Time{}
	}
}

// reportPage is an answer in JSON.
type reportPage struct {
	AsOf    string            `json:"as_of"`
	Version int               `json:"version"`
	State   string            `json:"state"`
	Columns []string          `json:"columns"`
	Rows    []json.RawMessage `json:"rows"` // as they are: the order of members is kept
	Next    *string           `json:"next"`
	raw     json.RawMessage
}

// pagesOfReport calls each for every page.
func pagesOfReport(ctx context.Context, c *client.Client, path string, query url.Values, limit int, each func(*reportPage) (more bool, err error)) error {
	query.Set("format", string(sheet.FormatJSON))
	query.Set("limit", strconv.Itoa(min(max(limit, 1), pageRows)))
	for {
		p := &reportPage{}
		if err := c.Get(ctx, path, query, &p.raw); err != nil {
			return err
		}
		if err := json.Unmarshal(p.raw, p); err != nil {
			return fmt.Errorf("read answer of %s: %w", path, err)
		}
		more, err := each(p)
		if err != nil || !more || p.Next == nil {
			return err
		}
		query.Set("cursor", *p.Next)
	}
}

// jsonOfReport writes all rows as one array, or the document of a report that is no table.
func jsonOfReport(ctx context.Context, c *client.Client, path string, query url.Values, w io.Writer) error {
	begin := "[\n"
	err := pagesOfReport(ctx, c, path, query, pageRows, func(p *reportPage) (bool, error) {
		if p.Columns == nil {
			begin = ""
			_, err := fmt.Fprintf(w, "%s\n", p.raw)
			return false, err
		}
		var b strings.Builder
		for _, row := range p.Rows {
			b.WriteString(begin)
			b.Write(row)
			begin = ",\n"
		}
		_, err := io.WriteString(w, b.String())
		return true, err
	})
	if err != nil || begin == "" {
		return err
	}
	end := "\n]\n"
	if begin == "[\n" {
		end = "[]\n"
	}
	_, err = io.WriteString(w, end)
	return err
}
