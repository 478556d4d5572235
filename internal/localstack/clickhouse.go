package localstack

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	deploy "github.com/countinghouse/countinghouse/deploy/clickhouse"
)

// ClickHouseConfig says where and how an engine runs.
type ClickHouseConfig struct {
	Engine   Engine // from EnsureEngine
	Dir      string // data, configuration and log; one engine at a time
	TCPPort  int    // native protocol; 0: a free one
	HTTPPort int    // 0: a free one

	// Read-only users and the tables under the views they may read. The engine reads them
	// when it starts: see WriteUsers.
	Analysts []Analyst
	Tables   []Table
}

const (
	loopback      = "127.0.0.1"
	startAttempts = 3                // with other ports each time, when they were not given
	attemptWait   = 10 * time.Second // to a server that takes connections and is slow: on a machine at its limit, or traced
	answerMax     = 64 << 20         // bytes; Query is for tests and small answers
)

// startSQL makes `clickhouse local` listen; the engine then reads the hold pipe as one more
// file of queries, and so serves until it ends.
const (
	startSQL = "SYSTEM START LISTEN TCP;\nSYSTEM START LISTEN HTTP;\n"
	holdPath = "/dev/fd/3"
)

// Part is the engine as a child process. The ports must be set.
func (c ClickHouseConfig) Part() (Part, error) {
	if c.TCPPort == 0 || c.HTTPPort == 0 || c.Dir == "" || c.Engine.Path == "" {
		return Part{}, errors.New("clickhouse: engine, directory and ports must be set")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return Part{}, fmt.Errorf("clickhouse: %w", err)
	}
	c.Dir = dir
	part := Part{
		Name:    "clickhouse",
		Exe:     c.Engine.Path,
		Args:    []string{"local"},
		Dir:     dir,
		LogFile: filepath.Join(dir, "clickhouse.log"),
		Hold:    true,
		Prepare: c.prepare,
		Ready:   c.ready,
	}
	if c.Engine.Library {
		part.Exe, part.Args = "", []string{childEngine, c.Engine.Path}
	}
	part.Args = append(part.Args,
		"--path", filepath.Join(dir, "data"),
		"--config-file", filepath.Join(dir, "config.xml"),
		"--log-level", "warning", // the level of the configuration file is not read in this mode
		"--listen_host", loopback,
		"--tcp_port", strconv.Itoa(c.TCPPort),
		"--http_port", strconv.Itoa(c.HTTPPort),
		"--queries-file", filepath.Join(dir, "start.sql"), holdPath)
	return part, nil
}

// prepare writes the configuration, and throws away the query log of the engine's last life:
// in this mode the system database is forgotten at the end, its files are not, and a query_log
// whose folder exists already cannot be created.
func (c ClickHouseConfig) prepare() error {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return fmt.Errorf("clickhouse: %w", err)
	}
	files := map[string][]byte{"config.xml": deploy.Config, "start.sql": []byte(startSQL)}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(c.Dir, name), text, 0o644); err != nil {
			return fmt.Errorf("clickhouse: %w", err)
		}
	}
	if err := os.RemoveAll(filepath.Join(c.Dir, "data", "data", "system")); err != nil {
		return fmt.Errorf("clickhouse: %w", err)
	}
	return WriteUsers(c.Dir, c.Analysts, c.Tables)
}

// ready asks over both protocols.
func (c ClickHouseConfig) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attemptWait)
	defer cancel()
	if err := helloNative(ctx, hostPort(loopback, c.TCPPort)); err != nil {
		return err
	}
	_, err := queryHTTP(ctx, "http://"+hostPort(loopback, c.HTTPPort), "SELECT 1")
	return err
}

// ClickHouse is a running engine. Its methods may be called from several goroutines.
type ClickHouse struct {
	cfg ClickHouseConfig

	mu   sync.Mutex
	proc *Process
}

// StartClickHouse starts an engine and waits until it answers SELECT 1 on both ports.
func StartClickHouse(ctx context.Context, cfg ClickHouseConfig) (*ClickHouse, error) {
	pickTCP, pickHTTP := cfg.TCPPort == 0, cfg.HTTPPort == 0
	for attempt := 1; ; attempt++ {
		ports, err := FreePorts(2)
		if err != nil {
			return nil, fmt.Errorf("clickhouse: %w", err)
		}
		if pickTCP {
			cfg.TCPPort = ports[0]
		}
		if pickHTTP {
			cfg.HTTPPort = ports[1]
		}
		c := &ClickHouse{cfg: cfg}
		if err = c.start(ctx); err == nil {
			return c, nil
		}
		// The port was taken between its choice and its use: choose again.
		conflict := (pickTCP || pickHTTP) && strings.Contains(err.Error(), "Address already in use")
		if !conflict || attempt == startAttempts {
			return nil, err
		}
	}
}

func (c *ClickHouse) start(ctx context.Context) error {
	c.mu.Lock()
	part, err := c.cfg.Part()
	c.mu.Unlock()
	if err != nil {
		return err
	}
	proc, err := StartPart(ctx, part)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proc = proc
	return nil
}

// Process is the process that runs now; Restart replaces it.
func (c *ClickHouse) Process() *Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proc
}

// Addr is host:port of the native protocol.
func (c *ClickHouse) Addr() string { return hostPort(loopback, c.cfg.TCPPort) }

// URL is where the engine answers HTTP.
func (c *ClickHouse) URL() string { return "http://" + hostPort(loopback, c.cfg.HTTPPort) }

// DSN is the data source name of a database, for clickhouse-go.
func (c *ClickHouse) DSN(database string) string {
	return "clickhouse://" + c.Addr() + "/" + database
}

// PID is the engine's process id.
func (c *ClickHouse) PID() int { return c.Process().PID() }

// Kill is kill -9.
func (c *ClickHouse) Kill() { c.Process().Kill() }

// Signal sends a signal, for instance SIGSTOP and SIGCONT.
func (c *ClickHouse) Signal(sig syscall.Signal) error { return c.Process().Signal(sig) }

// Stop shuts the engine down in order, and kills it after grace. Stopped already is fine.
func (c *ClickHouse) Stop(grace time.Duration) error { return c.Process().Stop(grace) }

// Restart stops the engine if it runs and starts it again on the same directory and ports.
func (c *ClickHouse) Restart(ctx context.Context) error {
	_ = c.Stop(StopGrace) // ended or killed: both leave a directory to go on from
	return c.start(ctx)
}

// SetAnalysts changes who may read what from the next Restart on.
func (c *ClickHouse) SetAnalysts(analysts []Analyst, tables []Table) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cfg.Analysts, c.cfg.Tables = analysts, tables
}

// Query runs one statement over HTTP as the default user and returns the answer as text,
// tab-separated unless the statement names a format, without the last line end.
func (c *ClickHouse) Query(ctx context.Context, sql string) (string, error) {
	return queryHTTP(ctx, c.URL(), sql)
}

// QueryAs is Query as another user.
func (c *ClickHouse) QueryAs(ctx context.Context, user, password, sql string) (string, error) {
	params := url.Values{"user": {user}, "password": {password}}
	return queryHTTP(ctx, c.URL()+"/?"+params.Encode(), sql)
}

func queryHTTP(ctx context.Context, address, sql string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(sql))
	if err != nil {
		return "", fmt.Errorf("query clickhouse: %w", err)
	}
	// A connection of its own: none must linger into a restart or a test's leak check.
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("query clickhouse: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err != nil {
		return "", fmt.Errorf("query clickhouse: %w", err)
	}
	answer := strings.TrimSuffix(string(body), "\n")
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("query clickhouse: %s", answer)
	}
	return answer, nil
}

// helloNative logs in over the native protocol and leaves: hello (packet 0) as the default
// user, answered by the server's hello. Written out here because only internal/warehouse
// imports a ClickHouse client.
func helloNative(ctx context.Context, addr string) error {
	const protocol = 54058 // an old revision: its hello has no fields but these
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("clickhouse native: %w", err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return fmt.Errorf("clickhouse native: %w", err)
		}
	}
	str := func(b []byte, s string) []byte { return append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	hello := str([]byte{0}, "countinghouse")
	for _, n := range []uint64{1, 0, protocol} { // client version, then protocol revision
		hello = binary.AppendUvarint(hello, n)
	}
	for _, s := range []string{"default", "default", ""} { // database, user, password
		hello = str(hello, s)
	}
	if _, err := conn.Write(hello); err != nil {
		return fmt.Errorf("clickhouse native: %w", err)
	}
	packet, err := binary.ReadUvarint(bufio.NewReader(conn))
	if err != nil {
		return fmt.Errorf("clickhouse native: %w", err)
	}
	if packet != 0 {
		return fmt.Errorf("clickhouse native: packet %d in answer to hello", packet)
	}
	return nil
}
