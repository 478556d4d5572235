// Package backup copies the log and the control state to one file, and back.
//
// Guarantee: what is restored is the log byte for byte, with its sequences and timestamps, so every
// position, recorded_at and identity is what it was; the warehouse is a projection and is built from it
// again by the aggregator (docs/ARCHITECTURE.md). A backup whose file exists is whole: it is written under
// another name, flushed, and renamed. A restore touches nothing before every checksum in the file has
// been verified, and nothing that exists already.
//
// It holds no secrets: API keys are in the control state as hashes only.
package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/eventlog"
)

// Manifest is the first entry of a backup: what it holds.
type Manifest struct {
	Format  int       `json:"format"` // 1
	MadeAt  time.Time `json:"made_at"`
	Streams []Stream  `json:"streams"`
}

// Stream is one stream of a backup.
type Stream struct {
	eventlog.Snapshot
	Messages uint64 `json:"messages"`
	LastSeq  uint64 `json:"last_seq"`
	Bytes    int64  `json:"bytes"`  // of the copy
	SHA256   string `json:"sha256"` // of the copy
}

const (
	format       = 1
	manifestName = "countinghouse-backup.json"
	manifestMax  = 16 << 20
)

// ErrDamaged marks a file that is no backup or not a whole one.
var ErrDamaged = errors.New("not a whole countinghouse backup")

// Create writes a backup to path, or, when path is a directory, to a file in it named by the time. It
// may run while everything else does. progress is told each stream; it may be nil.
//
// Streams of the control state come before the log: what they say about the log is then in the copy of
// it as well.
func Create(ctx context.Context, conn *eventlog.Conn, path string, now time.Time, progress func(Stream)) (file string, m Manifest, err error) {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		path = filepath.Join(path, "countinghouse-"+now.UTC().Format("20060102T150405Z")+".tar")
	}
	if _, err := os.Stat(path); err == nil {
		return "", m, fmt.Errorf("backup: %s exists already; choose another name", path)
	}
	names, err := conn.Streams(ctx)
	if err != nil {
		return "", m, fmt.Errorf("backup: %w", err)
	}
	if len(names) == 0 {
		return "", m, errors.New("backup: the server has no streams; is it the right one?")
	}
	sort.SliceStable(names, func(i, j int) bool { return !isLog(names[i]) && isLog(names[j]) })
	// Sizes stand before contents in a tar, so each copy is spooled beside the target first.
	spool, err := os.MkdirTemp(filepath.Dir(path), ".countinghouse-backup-")
	if err != nil {
		return "", m, fmt.Errorf("backup: %w", err)
	}
	defer func() { _ = os.RemoveAll(spool) }() // a leftover is harmless and says what it is
	m = Manifest{Format: format, MadeAt: now.UTC()}
	for _, name := range names {
		s, err := copyStream(ctx, conn, name, filepath.Join(spool, name))
		if err != nil {
			return "", m, fmt.Errorf("backup: %w", err)
		}
		m.Streams = append(m.Streams, s)
		if progress != nil {
			progress(s)
		}
	}
	if err := write(path, spool, m); err != nil {
		return "", m, fmt.Errorf("backup: %w", err)
	}
	return path, m, nil
}

func isLog(stream string) bool { return strings.HasPrefix(stream, "USAGE_") }

func copyStream(ctx context.Context, conn *eventlog.Conn, name, path string) (Stream, error) {
	s := Stream{}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return s, err
	}
	sum := sha256.New()
	snap, err := conn.SnapshotStream(ctx, name, io.MultiWriter(f, sum, counter{&s.Bytes}))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return s, err
	}
	s.Snapshot, s.SHA256 = snap, hex.EncodeToString(sum.Sum(nil))
	var state struct {
		Messages uint64 `json:"messages"`
		LastSeq  uint64 `json:"last_seq"`
	}
	if err := json.Unmarshal(snap.State, &state); err != nil {
		return s, fmt.Errorf("state of %s: %w", name, err)
	}
	s.Messages, s.LastSeq = state.Messages, state.LastSeq
	return s, nil
}

type counter struct{ n *int64 }

func (c counter) Write(p []byte) (int, error) {
	*c.n += int64(len(p))
	return len(p), nil
}

// write makes the file from the spooled copies: whole or not at all.
func write(path, spool string, m Manifest) error {
	tmp := path + ".partial"
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp) }() // gone already after the rename
	err = writeTar(out, spool, m)
	if err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }() // synced below
	return dir.Sync()
}

func writeTar(out io.Writer, spool string, m Manifest) error {
	w := tar.NewWriter(out)
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	head := func(name string, size int64) error {
		return w.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o600, ModTime: m.MadeAt, Format: tar.FormatPAX})
	}
	if err := head(manifestName, int64(len(text))); err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	for _, s := range m.Streams {
		if err := head(s.Stream, s.Bytes); err != nil {
			return err
		}
		f, err := os.Open(filepath.Join(spool, s.Stream))
		if err != nil {
			return err
		}
		_, err = io.Copy(w, f)
		_ = f.Close() // read only
		if err != nil {
			return err
		}
	}
	return w.Close()
}

// Verify reads a backup to its end and checks every checksum.
func Verify(path string) (Manifest, error) {
	var m Manifest
	err := walk(path, func(_ *Stream, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	}, &m)
	return m, err
}

// walk calls each for every stream of a backup, in order, and verifies what each has read.
func walk(path string, each func(*Stream, io.Reader) error, m *Manifest) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open backup: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	r := tar.NewReader(f)
	head, err := r.Next()
	if err != nil || head.Name != manifestName || head.Size > manifestMax {
		return fmt.Errorf("%s: %w", path, ErrDamaged)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(m); err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	}
	if m.Format != format {
		return fmt.Errorf("%s has format %d, this program reads %d", path, m.Format, format)
	}
	for i := range m.Streams {
		s := &m.Streams[i]
		head, err := r.Next()
		if err != nil || head.Name != s.Stream || head.Size != s.Bytes {
			return fmt.Errorf("%s: stream %s: %w", path, s.Stream, ErrDamaged)
		}
		sum := sha256.New()
		if err := each(s, &hashing{r, sum}); err != nil {
			return fmt.Errorf("%s: stream %s: %w", path, s.Stream, err)
		}
		if hex.EncodeToString(sum.Sum(nil)) != s.SHA256 {
			return fmt.Errorf("%s: stream %s: %w: its checksum is wrong", path, s.Stream, ErrDamaged)
		}
	}
	return nil
}

type hashing struct {
	r   io.Reader
	sum hash.Hash
}

func (h *hashing) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.sum.Write(p[:n])
	return n, err
}

// Restore makes the streams of a backup on a server that has none of them. progress may be nil.
func Restore(ctx context.Context, conn *eventlog.Conn, path string, progress func(Stream)) (Manifest, error) {
	m, err := Verify(path)
	if err != nil {
		return m, fmt.Errorf("restore: %w", err)
	}
	have, err := conn.Streams(ctx)
	if err != nil {
		return m, fmt.Errorf("restore: %w", err)
	}
	for _, name := range have {
		for _, s := range m.Streams {
			if s.Stream == name {
				return m, fmt.Errorf("restore: %w: %s; restore into an empty directory or server", eventlog.ErrExists, name)
			}
		}
	}
	var again Manifest
	err = walk(path, func(s *Stream, r io.Reader) error {
		if err := conn.RestoreStream(ctx, s.Snapshot, r); err != nil {
			return err
		}
		if progress != nil {
			progress(*s)
		}
		return nil
	}, &again)
	if err != nil {
		return m, fmt.Errorf("restore: %w", err)
	}
	return m, nil
}
