// Package stack is `countinghouse up`: all of Countinghouse on one machine, as separate processes kept
// running by this one.
//
// Guarantees:
//   - endpoints.json exists exactly while everything in it answers or is being restarted: it is written
//     by rename once every part is ready, rewritten when a part got another pid, removed on exit.
//   - One `up` at a time uses a directory; another one is told the pid of the first.
//   - Ports never change while it runs. A directory brought up again continues where it was, with the
//     same keys.
//   - A part that dies is started again within a second; `up` gone by SIGKILL takes its parts along.
package stack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Endpoints is the content of endpoints.json: where everything is and how to get in.
type Endpoints struct {
	Ingest         string            `json:"ingest"`
	Reporter       string            `json:"reporter"`
	NATS           string            `json:"nats"`
	ClickHouse     string            `json:"clickhouse"`
	ClickHouseHTTP string            `json:"clickhouse_http"`
	AdminToken     string            `json:"admin_token"`
	PIDs           map[string]int    `json:"pids"`
	Admin          map[string]string `json:"admin"`
	Analyst        Analyst           `json:"analyst"`
	Monitor        string            `json:"nats_monitor"`
	Operator       *Operator         `json:"operator,omitempty"` // only where Config asked for one
}

// Operator signs in to the pages, with every role of the tenant default that there is for people who look around.
type Operator struct {
	Login    string `json:"login"`
	Password string `json:"password"` // "": another one was set since
}

// Analyst is the SQL user who sees the rows of one tenant.
type Analyst struct {
	User     string `json:"user"`
	Password string `json:"password"`
	Tenant   string `json:"tenant"`
}

// ErrNotRunning says that no endpoints.json is in a directory.
var ErrNotRunning = errors.New("no countinghouse is running here")

// LoadEndpoints reads DIR/endpoints.json.
func LoadEndpoints(dir string) (Endpoints, error) {
	var e Endpoints
	path := filepath.Join(dir, endpointsFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return e, fmt.Errorf("%w: %s does not exist", ErrNotRunning, path)
	}
	if err != nil {
		return e, fmt.Errorf("read endpoints: %w", err)
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return e, fmt.Errorf("read endpoints of %s: %w", path, err)
	}
	return e, nil
}

// save writes endpoints.json in one step; it holds the admin key, so only its owner reads it.
func (e *Endpoints) save(dir string) error {
	text, err := json.MarshalIndent(e, "", " ")
	if err != nil {
		return fmt.Errorf("write endpoints: %w", err)
	}
	return writeAtomically(filepath.Join(dir, endpointsFile), append(text, '\n'))
}

func writeAtomically(path string, text []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Files of DIR.
const (
	endpointsFile = "endpoints.json"
	lockFile      = "up.lock"
	secretsDir    = "secrets"
	logsDir       = "logs"
)

// InUseError says who has the directory.
type InUseError struct {
	Dir string
	PID int
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("%s is in use by `countinghouse up` with pid %d; stop it, or choose another --dir", e.Dir, e.PID)
}

// lock takes the directory. The kernel gives it back when this process ends, however it ends.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer func() { _ = f.Close() }() // nothing was written
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		text, rerr := os.ReadFile(f.Name())
		pid, perr := strconv.Atoi(strings.TrimSpace(string(text)))
		if rerr != nil || perr != nil {
			pid = 0 // it holds the lock and has not written its pid yet
		}
		return nil, &InUseError{Dir: dir, PID: pid}
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
	}
	return f, nil
}
