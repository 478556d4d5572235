package localstack

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Ports are taken from below the range that Linux uses for outgoing connections
// (32768–60999), so that no connection can occupy a port between its choice and its use,
// nor while a killed server is started again on it.
const (
	portMin = 20000
	portMax = 32000
)

// FreePorts returns n loopback ports that nobody uses. All processes of a user are given ports in turn, so
// one that was given is given again only after every other of the 12,000: two stacks that start at the
// same time, each choosing first and listening later, do not meet.
func FreePorts(n int) ([]int, error) {
	turn, err := takeTurn()
	if err != nil {
		return nil, err
	}
	ports := make([]int, 0, n)
	var closing error
	for range portMax - portMin {
		if len(ports) == n {
			break
		}
		port := turn.next()
		l, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
		if err != nil {
			continue
		}
		closing = errors.Join(closing, l.Close())
		ports = append(ports, port)
	}
	if err := errors.Join(closing, turn.end()); err != nil {
		return nil, fmt.Errorf("find %d free ports: %w", n, err)
	}
	if len(ports) < n {
		return nil, fmt.Errorf("find %d free ports in %d–%d: only %d", n, portMin, portMax, len(ports))
	}
	return ports, nil
}

// turn is the file with the port given last, locked.
type turn struct {
	file *os.File
	last int
}

// takeTurn waits until no other process chooses.
func takeTurn() (*turn, error) {
	path := filepath.Join(os.TempDir(), "countinghouse-ports-"+strconv.Itoa(os.Getuid()))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("choose ports: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("choose ports: lock %s: %w", path, err), f.Close())
	}
	text, err := io.ReadAll(io.LimitReader(f, 16))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("choose ports: %w", err), f.Close())
	}
	last, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || last < portMin || last >= portMax { // new, or torn by a full disk
		last = portMin + rand.IntN(portMax-portMin)
	}
	return &turn{file: f, last: last}, nil
}

func (t *turn) next() int {
	if t.last++; t.last == portMax {
		t.last = portMin
	}
	return t.last
}

// end remembers the port given last; closing the file unlocks it.
func (t *turn) end() error {
	_, err := t.file.WriteAt([]byte(strconv.Itoa(t.last)+"\n"), 0)
	return errors.Join(err, t.file.Close())
}
