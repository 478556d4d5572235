package importer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// Input is one open file, decompressed.
type Input struct {
	Name string // base name without .gz or .zst: what {file} is, so that a compressed copy has the same ids
	Path string
	Size int64 // bytes as stored; 0 when unknown (standard input)

	r      io.Reader
	offset *counting
	closes []func() error
}

// counting counts the bytes read from the stored file, for progress.
type counting struct {
	r io.Reader
	n atomic.Int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// Open opens path ("-" is standard input) and undoes gzip or zstd, which it tells by the first bytes
// and not by the name.
func Open(path string) (*Input, error) {
	if path == "-" {
		return NewInput("stdin", os.Stdin)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err //nolint:wrapcheck // it says open, and the path
	}
	in, err := NewInput(filepath.Base(path), f)
	if err != nil {
		return nil, fmt.Errorf("open import file %s: %w", path, err)
	}
	in.Path = path
	in.closes = append(in.closes, f.Close)
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
		in.Size = st.Size()
	}
	return in, nil
}

var (
	magicGzip = []byte{0x1f, 0x8b}
	magicZstd = []byte{0x28, 0xb5, 0x2f, 0xfd}
	utf8BOM   = []byte{0xef, 0xbb, 0xbf}
)

// NewInput is an input from r, known as name.
func NewInput(name string, r io.Reader) (*Input, error) {
	in := &Input{Name: PlainName(name), offset: &counting{r: r}}
	buf := bufio.NewReaderSize(in.offset, 256<<10)
	head, err := buf.Peek(4)
	if err != nil && err != io.EOF { // a file shorter than 4 bytes is fine
		return nil, fmt.Errorf("read first bytes: %w", err)
	}
	in.r = buf
	switch {
	case bytes.HasPrefix(head, magicGzip):
		z, err := gzip.NewReader(buf)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		in.r, in.closes = z, append(in.closes, z.Close)
	case bytes.HasPrefix(head, magicZstd):
		z, err := zstd.NewReader(buf, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		in.r, in.closes = z, append(in.closes, func() error { z.Close(); return nil })
	}
	plain := bufio.NewReaderSize(in.r, 256<<10)
	if head, _ := plain.Peek(3); bytes.Equal(head, utf8BOM) {
		_, _ = plain.Discard(3)
	}
	in.r = plain
	return in, nil
}

// PlainName is a file name without the suffix of its compression.
func PlainName(name string) string {
	for _, ext := range []string{".gz", ".zst", ".zstd"} {
		if n := strings.TrimSuffix(name, ext); n != name && n != "" {
			return n
		}
	}
	return name
}

// Offset is how many stored bytes have been read, of Size.
func (in *Input) Offset() int64 { return in.offset.n.Load() }

// Close closes the file.
func (in *Input) Close() error {
	var first error
	for _, c := range in.closes {
		if err := c(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
