package importer

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// lineBytesMax bounds one record: 1 MiB is 16 times the largest event ingest takes.
const lineBytesMax = 1 << 20

// reader yields records. A *Fault is one bad record, after which next may be called again; io.EOF is
// the end; any other error ends the file.
type reader interface {
	next() (record, error)
}

// record is one row, line or document. Exactly one of fields and doc is used.
type record struct {
	line   int // where it starts, from 1; a CSV header is line 1
	names  map[string]int
	fields []string
	doc    *node
}

func (r *record) value(p *part) (string, bool) {
	if r.doc != nil {
		return r.doc.text(p.path)
	}
	name := p.name
	if i, ok := r.names[name]; ok && i < len(r.fields) {
		return r.fields[i], true
	}
	if i, ok := r.names[strings.TrimPrefix(name, "column.")]; ok && i < len(r.fields) {
		return r.fields[i], true
	}
	return "", false
}

// csvReader reads RFC 4180 rows: LF or CRLF, quoted delimiters and newlines.
type csvReader struct {
	r     *csv.Reader
	names map[string]int
}

func newCSV(r io.Reader, c CSVRule, uses []string) (*csvReader, error) {
	out := &csvReader{r: csv.NewReader(r), names: map[string]int{}}
	out.r.Comma = c.comma
	out.r.ReuseRecord = true
	columns := c.Columns
	if c.header() {
		head, err := out.r.Read()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("the file is empty; a CSV needs a header line or csv.header: false")
		}
		if err != nil {
			return nil, fmt.Errorf("read CSV header: %w", err)
		}
		columns = append([]string(nil), head...)
	} else {
		out.r.FieldsPerRecord = len(columns)
	}
	for i, name := range columns {
		if _, twice := out.names[name]; twice {
			return nil, fmt.Errorf("the CSV has two columns %q; name them with csv.header: false and csv.columns", name)
		}
		out.names[name] = i
	}
	for _, name := range uses {
		if _, ok := out.names[name]; !ok {
			return nil, fmt.Errorf("the mapping names column %q; the file has %s", name, strings.Join(columns, ", "))
		}
	}
	return out, nil
}

func (c *csvReader) next() (record, error) {
	fields, err := c.r.Read()
	var bad *csv.ParseError
	if errors.As(err, &bad) {
		return record{}, &Fault{Line: bad.StartLine, Code: "csv", Detail: bad.Err.Error()}
	}
	if err != nil {
		return record{}, err
	}
	line, _ := c.r.FieldPos(0)
	return record{line: line, names: c.names, fields: fields}, nil
}

// lines yields the lines of a file without their LF or CRLF.
type lines struct {
	r *bufio.Scanner
	n int
}

func newLines(r io.Reader) *lines {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), lineBytesMax)
	return &lines{r: s}
}

func (l *lines) next() ([]byte, error) {
	if !l.r.Scan() {
		if err := l.r.Err(); errors.Is(err, bufio.ErrTooLong) {
			return nil, fmt.Errorf("line %d is longer than %d bytes", l.n+1, lineBytesMax)
		} else if err != nil {
			return nil, err
		}
		return nil, io.EOF
	}
	l.n++
	return l.r.Bytes(), nil
}

// combinedReader reads the Apache combined (and common) log format.
type combinedReader struct {
	l *lines
}

var combinedColumns = map[string]int{
	"client": 0, "ident": 1, "user": 2, "time": 3, "request": 4, "status": 5, "bytes": 6, "referer": 7, "agent": 8,
	"method": 9, "path": 10, "protocol": 11,
}

func (c *combinedReader) next() (record, error) {
	for {
		line, err := c.l.next()
		if err != nil {
			return record{}, err
		}
		if len(line) == 0 {
			continue
		}
		fields, err := parseCombined(string(line))
		if err != nil {
			return record{}, &Fault{Line: c.l.n, Code: "combined", Detail: err.Error()}
		}
		return record{line: c.l.n, names: combinedColumns, fields: fields}, nil
	}
}

// parseCombined cuts: client ident user [time] "request" status bytes "referer" "agent". The last two
// may be absent (common log format).
func parseCombined(s string) ([]string, error) {
	f := make([]string, len(combinedColumns))
	for i := 0; i <= 8; i++ {
		if s == "" {
			if i < 7 {
				return nil, fmt.Errorf("the line ends after %d of 7 fields", i)
			}
			f[i] = "-"
			continue
		}
		var err error
		if f[i], s, err = combinedField(s, i); err != nil {
			return nil, err
		}
	}
	if s != "" {
		return nil, fmt.Errorf("there is more after the user agent")
	}
	f[9], f[10], f[11] = "-", "-", "-"
	if parts := strings.Split(f[4], " "); len(parts) == 3 {
		copy(f[9:], parts)
	}
	return f, nil
}

func combinedField(s string, i int) (field, rest string, err error) {
	var end int
	switch i {
	case 3:
		if s[0] != '[' {
			return "", "", fmt.Errorf("the time must be in brackets")
		}
		if end = strings.IndexByte(s, ']'); end < 0 {
			return "", "", fmt.Errorf("the bracket around the time is not closed")
		}
		field, rest = s[1:end], s[end+1:]
	case 4, 7, 8:
		if s[0] != '"' {
			return "", "", fmt.Errorf("field %d must be in quotes", i+1)
		}
		for end = 1; end < len(s) && s[end] != '"'; end++ {
			if s[end] == '\\' {
				end++
			}
		}
		if end >= len(s) && i >= 7 { // referer or agent of a line that was cut off: what is counted stands before it
			return strings.ReplaceAll(s[1:], `\"`, `"`), "", nil
		}
		if end >= len(s) {
			return "", "", fmt.Errorf("the quote of field %d is not closed", i+1)
		}
		field, rest = strings.ReplaceAll(s[1:end], `\"`, `"`), s[end+1:]
	default:
		field, rest, _ = strings.Cut(s, " ")
		return field, rest, nil
	}
	if rest != "" && rest[0] != ' ' {
		return "", "", fmt.Errorf("a space must follow field %d", i+1)
	}
	return field, strings.TrimPrefix(rest, " "), nil
}

// jsonReader reads one JSON object a line.
type jsonReader struct {
	l *lines
}

func (j *jsonReader) next() (record, error) {
	for {
		line, err := j.l.next()
		if err != nil {
			return record{}, err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		doc, err := parseNode(line)
		if err == nil && doc.kind != '{' {
			err = fmt.Errorf("a line must be a JSON object")
		}
		if err != nil {
			return record{}, &Fault{Line: j.l.n, Code: "json", Detail: strings.TrimPrefix(err.Error(), "jsontext: ")}
		}
		return record{line: j.l.n, doc: doc}, nil
	}
}

// node is a JSON value. Scalars keep their text as written, so a number stays exact.
type node struct {
	kind    jsontext.Kind
	scalar  string
	keys    []string // of an object in order of appearance; of an array "0", "1", …
	members map[string]*node
	raw     []byte // the top-level document as it stood
}

func parseNode(doc []byte) (*node, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(doc)) // refuses duplicate keys and bad UTF-8
	n, err := readNode(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("there is more than one JSON value on the line")
	}
	n.raw = doc
	return n, nil
}

func readNode(dec *jsontext.Decoder, depth int) (*node, error) {
	if depth > 64 {
		return nil, fmt.Errorf("JSON is nested deeper than 64")
	}
	tok, err := dec.ReadToken()
	if err != nil {
		return nil, err
	}
	n := &node{kind: tok.Kind()}
	switch n.kind {
	case '{':
		n.members = map[string]*node{}
		for dec.PeekKind() != '}' {
			key, err := dec.ReadToken()
			if err != nil {
				return nil, err
			}
			name := key.String()
			m, err := readNode(dec, depth+1)
			if err != nil {
				return nil, err
			}
			n.keys = append(n.keys, name)
			n.members[name] = m
		}
		_, err = dec.ReadToken()
	case '[':
		n.members = map[string]*node{}
		for i := 0; dec.PeekKind() != ']'; i++ {
			m, err := readNode(dec, depth+1)
			if err != nil {
				return nil, err
			}
			name := strconv.Itoa(i)
			n.keys = append(n.keys, name)
			n.members[name] = m
		}
		_, err = dec.ReadToken()
	default:
		n.scalar = tok.String()
	}
	return n, err
}

func (n *node) at(path []string) *node {
	for _, name := range path {
		if n == nil {
			return nil
		}
		n = n.members[name]
	}
	return n
}

// text is the scalar at path; null, objects and arrays have none.
func (n *node) text(path []string) (string, bool) {
	n = n.at(path)
	if n == nil || n.kind == 'n' || n.members != nil {
		return "", false
	}
	return n.scalar, true
}
