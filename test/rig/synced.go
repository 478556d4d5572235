package rig

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// WatchSyncs are the options of strace under which Syncs can tell what a NATS server synced before it
// acknowledged: whole buffers, so that every record can be found in them.
func WatchSyncs() []string {
	return []string{"--trace=openat,write,pwrite64,writev,sendto,fsync,fdatasync", "--decode-fds=path", "--strings-in-hex=all", "--string-limit=4194304"}
}

// Syncs is what a trace says about one stream.
type Syncs struct {
	Writes, Fsyncs int
	Acks           int // of messages that were stored in this life of the server
	Unsynced       int // of those, given before the message was on the disk
	Earlier        int // of messages that an earlier life had stored: a producer asked again
	First          string
}

// synced follows a trace.
type synced struct {
	Syncs
	block, ack *regexp.Regexp

	begun   map[string]call            // by thread: a call that has not returned
	written map[string]map[uint64]bool // by file: sequences in the page cache
	always  map[string]bool            // files that are opened to be synced at each write
	seen    map[uint64]bool            // every sequence that was written
	safe    map[uint64]bool            // and is on the disk
	unseen  []uint64                   // receipts of what had not been written when they were sent
}

type call struct {
	name, file string
	seqs       []uint64 // written by it, or synced by it when it returns
}

// ReadSyncs reads the trace of a NATS server.
func ReadSyncs(trace, stream string) (Syncs, error) {
	f, err := os.Open(trace)
	if err != nil {
		return Syncs{}, err
	}
	defer f.Close()
	s := synced{
		block: regexp.MustCompile(`/streams/` + regexp.QuoteMeta(stream) + `/msgs/\d+\.blk$`),
		ack:   regexp.MustCompile(`\{"stream":"` + regexp.QuoteMeta(stream) + `",(?:"domain":"[^"]*",)?"seq":(\d+)`),
		begun: map[string]call{}, written: map[string]map[uint64]bool{}, always: map[string]bool{}, seen: map[uint64]bool{}, safe: map[uint64]bool{},
	}
	lines := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			s.line(strings.TrimSpace(line))
		}
		if err != nil {
			s.judge()
			return s.Syncs, nil //nolint:nilerr // the end
		}
	}
}

var (
	// thread, filled up to five places, then a call that begins, with a file, or one that goes on.
	traceBegin  = regexp.MustCompile(`^(\d+) +(\w+)\((?:(?:\d+|AT_FDCWD)(?:<([^>]*)>)?)?`)
	traceResume = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>`)
	traceHex    = regexp.MustCompile(`"((?:\\x[0-9a-f]{2})*)"`)
	traceResult = regexp.MustCompile(`\) += (-?\d+)`)
)

func (s *synced) line(line string) {
	if m := traceResume.FindStringSubmatch(line); m != nil {
		c := s.begun[m[1]]
		delete(s.begun, m[1])
		s.returns(c, line)
		return
	}
	m := traceBegin.FindStringSubmatch(line)
	if m == nil {
		return
	}
	c := call{name: m[2], file: string(unhex(m[3]))}
	switch c.name {
	case "fsync", "fdatasync":
		for seq := range s.written[c.file] {
			c.seqs = append(c.seqs, seq)
		}
	case "openat":
		path := traceHex.FindStringSubmatch(line)
		if path != nil && (strings.Contains(line, "O_SYNC") || strings.Contains(line, "O_DSYNC")) {
			s.always[string(unhex(path[1]))] = true
		}
	default:
		var data []byte
		for _, part := range traceHex.FindAllStringSubmatch(line, -1) {
			data = append(data, unhex(part[1])...)
		}
		if s.block.MatchString(c.file) {
			c.seqs = sequences(data)
		} else if strings.HasPrefix(c.file, "socket:") {
			s.acknowledges(data)
		}
	}
	if strings.HasSuffix(line, "<unfinished ...>") {
		s.begun[m[1]] = c
		return
	}
	s.returns(c, line)
}

// returns notes what a call has done.
func (s *synced) returns(c call, line string) {
	m := traceResult.FindStringSubmatch(line)
	if len(m) == 0 || strings.HasPrefix(m[1], "-") || !s.block.MatchString(c.file) {
		return
	}
	switch c.name {
	case "fsync", "fdatasync":
		s.Fsyncs++
		for _, seq := range c.seqs {
			s.safe[seq] = true
			delete(s.written[c.file], seq)
		}
	case "write", "pwrite64", "writev":
		s.Writes++
		if s.written[c.file] == nil {
			s.written[c.file] = map[uint64]bool{}
		}
		for _, seq := range c.seqs {
			s.seen[seq] = true
			if s.always[c.file] {
				s.safe[seq] = true
			} else {
				s.written[c.file][seq] = true
			}
		}
	}
}

func (s *synced) acknowledges(data []byte) {
	for _, m := range s.ack.FindAllSubmatch(data, -1) {
		seq, err := strconv.ParseUint(string(m[1]), 10, 64)
		switch {
		case err != nil:
		case s.safe[seq]:
			s.Acks++
		case !s.seen[seq]:
			s.unseen = append(s.unseen, seq)
		default:
			s.early(seq)
		}
	}
}

// judge tells receipts of messages that an earlier life had stored, which come before the first that this one wrote, from
// receipts that were too early. Only the end of a trace knows: such a receipt may be the first thing that a life sends.
func (s *synced) judge() {
	low := s.lowest()
	for _, seq := range s.unseen {
		if len(s.seen) > 0 && seq < low {
			s.Earlier++
		} else {
			s.early(seq)
		}
	}
}

func (s *synced) early(seq uint64) {
	s.Acks++
	s.Unsynced++
	if s.First == "" {
		s.First = fmt.Sprintf("sequence %d", seq)
	}
}

func (s *synced) lowest() uint64 {
	low := ^uint64(0)
	for seq := range s.seen {
		low = min(low, seq)
	}
	return low
}

// sequences are those of the records in a buffer of a block: length (4 bytes, the highest bit says that
// there are headers), sequence (8), time (8), length of the subject (2), the rest.
func sequences(data []byte) []uint64 {
	var seqs []uint64
	for len(data) >= 22 {
		length := binary.LittleEndian.Uint32(data) &^ (1 << 31)
		seqs = append(seqs, binary.LittleEndian.Uint64(data[4:]))
		if length < 22 || int(length) > len(data) {
			break
		}
		data = data[length:]
	}
	return seqs
}

// unhex reads \x.. as strace writes it.
func unhex(text string) []byte {
	data, err := hex.DecodeString(strings.ReplaceAll(text, `\x`, ""))
	if err != nil {
		return nil
	}
	return data
}
