package fight

import (
	"bytes"
	"regexp"
	"strconv"

	"github.com/countinghouse/countinghouse/test/proxy"
)

// An insert on the wire: the statement, with a blank block behind it; the server's header; the rows and a
// blank block; then the answer: progress, profile, end of stream.

var (
	statement  = regexp.MustCompile(`INSERT INTO countinghouse\.(\w+) \(`)
	fence      = regexp.MustCompile(`WHERE shard = \d+\) = \((\d+), \d+\)`)
	blankBlock = []byte{2, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0}
)

// EndOfStream is the last byte of an answer.
const EndOfStream = 5

// InsertOf is the table a chunk of bytes inserts into, and the number of the owner who does; "" if it does not.
func InsertOf(d proxy.Direction, chunk []byte) (table string, epoch uint64) {
	if d != proxy.ToServer {
		return "", 0
	}
	name, owner := statement.FindSubmatch(chunk), fence.FindSubmatch(chunk)
	if name == nil || owner == nil {
		return "", 0
	}
	epoch, _ = strconv.ParseUint(string(owner[1]), 10, 64) // digits
	return string(name[1]), epoch
}

// stage is how far an insert is.
type stage int

const (
	idle stage = iota
	asked
	invited // the server has said what it wants
	sending
	sent
)

// inserts follows the inserts into one table, on every connection.
type inserts struct {
	table  string
	stages map[int]stage
}

func newInserts(table string) *inserts { return &inserts{table: table, stages: map[int]stage{}} }

// see is where a connection is once a chunk has passed.
func (in *inserts) see(connection int, d proxy.Direction, chunk []byte) stage {
	now := in.stages[connection]
	switch table, _ := InsertOf(d, chunk); {
	case table == in.table:
		now = asked
	case table != "" || len(chunk) == 0:
		now = idle
	case now == asked && d == proxy.ToClient:
		now = invited
	case (now == invited || now == sending) && d == proxy.ToServer:
		now = sending
		if bytes.HasSuffix(chunk, blankBlock) {
			now = sent
		}
	}
	in.stages[connection] = now
	return now
}

// Place is where an exchange is cut: so many bytes from the start or the end of the rows or of the answer.
type Place struct {
	Direction proxy.Direction
	FromEnd   bool
	Bytes     int64
}

func (p Place) String() string {
	name := "rows"
	if p.Direction == proxy.ToClient {
		name = "answer"
	}
	if p.FromEnd {
		return strconv.FormatInt(p.Bytes, 10) + " bytes before the end of the " + name
	}
	return "byte " + strconv.FormatInt(p.Bytes, 10) + " of the " + name
}

// CutInsert cuts the next insert into a table at a place.
func CutInsert(table string, at Place, end proxy.End) *proxy.Cut {
	in := newInserts(table)
	cut := &proxy.Cut{Direction: at.Direction, After: at.Bytes, End: end}
	cut.When = func(connection int, d proxy.Direction, chunk []byte) bool {
		now := in.see(connection, d, chunk)
		last := d == proxy.ToServer && now == sent ||
			d == proxy.ToClient && now == sent && len(chunk) > 0 && chunk[len(chunk)-1] == EndOfStream
		switch {
		case d != at.Direction:
			return false
		case at.FromEnd && last:
			cut.After = max(int64(len(chunk))-at.Bytes, 0)
			return true
		case at.FromEnd:
			return false
		}
		return now == sent || now == sending
	}
	return cut
}
