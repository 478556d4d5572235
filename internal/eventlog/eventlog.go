// Package eventlog is the log: the only source of truth, of which everything else is a projection.
//
// Guarantees:
//
//   - A Receipt means the log holds exactly these bytes. The same bytes under the same id may be
//     appended any number of times, by anyone, and are in the log once per duplicate window; a receipt
//     is never taken from bytes that are not the caller's.
//   - Reading is in sequence order and without holes: a sequence that is not there is said (Gap), a log
//     that went backwards or was made anew is said (BehindError, RecreatedError), never skipped over.
//   - What EncodeChunk accepts, DecodeChunk accepts, for ever (schema/log/README.md). DecodeChunk lets
//     nothing through that the warehouse could refuse.
//
// The package never deletes, purges or rewrites. It holds no state that the log does not: a reader's
// position is its caller's business, because progress lives in the warehouse (ADR 0002).
//
// Together with package control it is the only importer of nats.go.
package eventlog

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// Kinds of messages: the last token of the subject.
const (
	KindChunk  = "chunk"  // the format of schema/log, written by ingest
	KindEvents = "events" // CloudEvents JSON, written by direct producers
)

// Classes of failure, for callers that act on them. Errors of this package wrap one where it applies.
var (
	// ErrFull: the log refuses because its limit or its disk is reached. The world's fault; retry later.
	ErrFull = errors.New("storage-full")
	// ErrUnavailable: no answer from the log. The bytes may be stored or not: retry under the same id.
	ErrUnavailable = errors.New("log unavailable")
	// ErrTooLarge: the message exceeds what the server takes. Never retry.
	ErrTooLarge = errors.New("message too large for the log")
	// ErrIDReused: other bytes are in the log under this id. Ours or an attacker's; take a new id.
	ErrIDReused = errors.New("message id already used for other bytes")
	// ErrNotFound: the log has no such sequence.
	ErrNotFound = errors.New("no such sequence in the log")
	// ErrSettings: the streams, or the server's mapping, are not what this configuration needs.
	ErrSettings = errors.New("log does not fit the configuration")
	// ErrClosed: the Log or Reader was closed.
	ErrClosed = errors.New("log closed")
)

// Log is the streams of all partitions. Its methods may be used concurrently.
type Log struct {
	conn  *Conn
	owned bool
	cfg   Config
	log   *zap.Logger
	gate  *gate

	faultMu  sync.Mutex // also keeps a crowd of waiting appends to one question
	faultAt  time.Time
	fault    error
	receipts receipts
	fullAt   atomic.Int64 // when an append last found the disk full, Unix ns
}

// Dial opens the log on a connection of its own, which Close closes. It succeeds while NATS is down:
// connecting goes on in the background.
func Dial(cfg Config, log *zap.Logger) (*Log, error) {
	conn, err := Connect(cfg, log)
	if err != nil {
		return nil, err
	}
	l, err := Open(conn, cfg, log)
	if err != nil {
		conn.Close()
		return nil, err
	}
	l.owned = true
	return l, nil
}

// Open opens the log on a connection that the caller keeps, for programs that also use package control.
func Open(conn *Conn, cfg Config, log *zap.Logger) (*Log, error) {
	cfg = cfg.withDefaults()
	if faults := cfg.Validate(); len(faults) > 0 {
		return nil, fmt.Errorf("log configuration: %w", errors.Join(faults...))
	}
	return &Log{conn: conn, cfg: cfg, log: log, gate: newGate(cfg.InFlight, cfg.InFlightBytes)}, nil
}

// Close closes the connection if Dial made it, which fails the appends in flight, and waits for them.
func (l *Log) Close() {
	if l.owned {
		l.conn.Close()
	}
	l.gate.running.Wait()
}

// Conn is the connection, to share with package control.
func (l *Log) Conn() *Conn { return l.conn }

// Partitions is how many partitions the log has.
func (l *Log) Partitions() int { return l.cfg.Partitions }

// Message is one message of the log.
type Message struct {
	Partition int
	Seq       uint64
	Time      usage.Instant // the log's own timestamp
	Subject   string
	Tenant    string // "" if the subject is not of the form of schema/log
	Kind      string // KindChunk, KindEvents, or whatever else stands there
	Header    map[string][]string
	Data      []byte // the caller's; nothing else refers to it
	Hash      [16]byte
}

// ContentType is the Content-Type header, or "".
func (m *Message) ContentType() string { return m.header("Content-Type") }

// MsgID is the id the producer gave the message, or "".
func (m *Message) MsgID() string { return m.header("Nats-Msg-Id") }

func (m *Message) header(name string) string {
	if v := m.Header[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// newMessage takes the parts of a stored message apart. Header entries that only a direct get adds are
// left out, so that a message looks the same, and hashes the same, however it was read.
func newMessage(partition int, seq uint64, at time.Time, subject string, header map[string][]string, data []byte) Message {
	m := Message{Partition: partition, Seq: seq, Time: usage.AtTime(at), Subject: subject, Data: data}
	m.Header = header
	for _, name := range []string{jetstream.StreamHeader, jetstream.SubjectHeader, jetstream.SequenceHeader,
		jetstream.TimeStampHeaer, jetstream.LastSequenceHeader, "Nats-Num-Pending", "Nats-UpTo-Sequence"} {
		delete(m.Header, name)
	}
	if rest, ok := strings.CutPrefix(subject, "usage.log."); ok {
		if _, rest, ok = strings.Cut(rest, "."); ok {
			m.Tenant, m.Kind, _ = strings.Cut(rest, ".")
		}
	}
	m.Hash = MessageHash(subject, m.Header, data)
	return m
}

func streamName(partition int) string { return fmt.Sprintf("USAGE_%d", partition) }
