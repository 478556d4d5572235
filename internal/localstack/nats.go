package localstack

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Producers publish to MappingFrom; the server's mapping alone picks the partition, by a hash
// of the tenant, the first wildcard.
const (
	MappingFrom = "usage.in.*.*"
	mappingTo   = "usage.log.{{partition(%d,1)}}.{{wildcard(1)}}.{{wildcard(2)}}"

	maxPayload = 1 << 20 // bytes; a chunk has at most 256 KiB, a direct batch a little more
	maxConns   = 4096

	natsReadyMax  = readyWait
	natsReadyPoll = 100 * time.Millisecond
)

// NATSConfig says where and how a NATS server runs. JetStream with file storage is always on.
type NATSConfig struct {
	Dir         string // JetStream's storage, and the log of a child
	Host        string // default loopback
	Port        int    // 0: a free one
	MonitorPort int    // HTTP monitoring; 0: a free one
	MonitorHost string // default loopback
	Partitions  int    // of the log; 0: 1. Fixed once Dir exists
	MaxStore    int64  // bytes JetStream may use; 0: the whole disk, the streams set limits
	LazySync    bool   // NATS's own default: fsync now and then. Loses acknowledged data in a power cut
	ServerName  string // default countinghouse; its own for each server of a cluster

	ClusterPort int      // where the other servers of a cluster connect; 0: no cluster
	Routes      []string // of all of them, host:port

	// Wrap changes how a child is started: under a tracer, in another network.
	Wrap func(Part) (Part, error) `json:"-"`

	// Configure changes the server's options before it starts (TLS, users, clusters);
	// in-process servers only.
	Configure func(*server.Options) `json:"-"`
}

func (c NATSConfig) withDefaults() (NATSConfig, error) {
	if c.Dir == "" {
		return c, errors.New("nats: no directory")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, fmt.Errorf("nats: %w", err)
	}
	c.Dir = dir
	if c.Host == "" {
		c.Host = loopback
	}
	if c.MonitorHost == "" {
		c.MonitorHost = loopback
	}
	if c.Partitions == 0 {
		c.Partitions = 1
	}
	if c.ServerName == "" {
		c.ServerName = "countinghouse"
	}
	ports, err := FreePorts(2)
	if err != nil {
		return c, fmt.Errorf("nats: %w", err)
	}
	if c.Port == 0 {
		c.Port = ports[0]
	}
	if c.MonitorPort == 0 {
		c.MonitorPort = ports[1]
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return c, fmt.Errorf("nats: %w", err)
	}
	if c.MaxStore == 0 {
		var disk syscall.Statfs_t
		if err := syscall.Statfs(c.Dir, &disk); err != nil {
			return c, fmt.Errorf("nats: size of the disk of %s: %w", c.Dir, err)
		}
		c.MaxStore = int64(disk.Blocks) * disk.Bsize
	}
	return c, c.fixPartitions()
}

// fixPartitions refuses another number of partitions than the directory was made with: the
// mapping would move tenants between streams, and a duplicate would no longer meet its original.
func (c NATSConfig) fixPartitions() error {
	name := filepath.Join(c.Dir, "partitions")
	text, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		err = os.WriteFile(name, []byte(strconv.Itoa(c.Partitions)+"\n"), 0o644)
	} else if had := strings.TrimSpace(string(text)); err == nil && had != strconv.Itoa(c.Partitions) {
		err = fmt.Errorf("%s was made with %s partitions and cannot run with %d", c.Dir, had, c.Partitions)
	}
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	return nil
}

func (c NATSConfig) options() *server.Options {
	opts := &server.Options{
		ServerName:         c.ServerName,
		Host:               c.Host,
		Port:               c.Port,
		HTTPHost:           c.MonitorHost,
		HTTPPort:           c.MonitorPort,
		NoSigs:             true, // the program's own handlers decide
		MaxConn:            maxConns,
		MaxPayload:         maxPayload,
		JetStream:          true,
		StoreDir:           c.Dir,
		JetStreamMaxStore:  c.MaxStore,
		JetStreamMaxMemory: 256 << 20, // bytes; KV and streams are on disk, consumers take little
		SyncAlways:         !c.LazySync,
	}
	if c.ClusterPort != 0 {
		opts.Cluster = server.ClusterOpts{Name: "countinghouse", Host: c.Host, Port: c.ClusterPort}
		opts.Routes = server.RoutesFromStr("nats://" + strings.Join(c.Routes, ",nats://"))
	}
	if c.Configure != nil {
		c.Configure(opts)
	}
	return opts
}

// NATS is a server in this process.
type NATS struct {
	cfg    NATSConfig
	server *server.Server
}

// StartNATS starts a server in this process and waits until it takes connections.
func StartNATS(cfg NATSConfig) (*NATS, error) {
	for attempt := 1; ; attempt++ {
		full, err := cfg.withDefaults() // chooses ports
		if err != nil {
			return nil, err
		}
		n := &NATS{cfg: full}
		if err = n.start(io.Discard); err == nil {
			return n, nil
		}
		conflict := cfg.Port == 0 && strings.Contains(err.Error(), "address already in use")
		if !conflict || attempt == startAttempts {
			return nil, err
		}
	}
}

func (n *NATS) start(log io.Writer) error {
	if err := forgetUnborn(n.cfg.Dir); err != nil {
		return err
	}
	s, err := server.NewServer(n.cfg.options())
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	logger := &natsLog{out: log, fatal: make(chan string, 1)}
	s.SetLoggerV2(logger, false, false, false)
	dest := server.NewMapDest(fmt.Sprintf(mappingTo, n.cfg.Partitions), 100)
	if err := s.GlobalAccount().AddWeightedMappings(MappingFrom, dest); err != nil {
		return fmt.Errorf("nats: map %s: %w", MappingFrom, err)
	}
	n.server = s
	s.Start()
	deadline := time.Now().Add(natsReadyMax)
	for !s.ReadyForConnections(natsReadyPoll) || !s.JetStreamEnabled() {
		select {
		case reason := <-logger.fatal:
			n.Stop()
			return fmt.Errorf("nats: %s", reason)
		default:
		}
		if time.Now().After(deadline) {
			n.Stop()
			return fmt.Errorf("nats: %s not ready within %s", n.URL(), natsReadyMax)
		}
	}
	return nil
}

// URL is where clients connect.
func (n *NATS) URL() string { return "nats://" + hostPort(n.cfg.Host, n.cfg.Port) }

// MonitorURL serves /varz, /jsz, /healthz.
func (n *NATS) MonitorURL() string { return "http://" + hostPort(n.cfg.MonitorHost, n.cfg.MonitorPort) }

// Server is the server itself, for tests that look inside.
func (n *NATS) Server() *server.Server { return n.server }

// Stop shuts the server down and waits for it.
func (n *NATS) Stop() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
}

// Restart stops the server if it runs and starts it again on the same directory and ports.
func (n *NATS) Restart() error {
	n.Stop()
	return n.start(io.Discard)
}

// Part is the server as a child process. The ports must be set.
func (c NATSConfig) Part() (Part, error) {
	if c.Port == 0 || c.MonitorPort == 0 {
		return Part{}, errors.New("nats: ports must be set")
	}
	if c.Configure != nil {
		return Part{}, errors.New("nats: Configure works in this process only")
	}
	c, err := c.withDefaults()
	if err != nil {
		return Part{}, err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return Part{}, fmt.Errorf("nats: %w", err)
	}
	return Part{
		Name:    "nats",
		Args:    []string{childNATS, string(text)},
		Dir:     c.Dir,
		LogFile: filepath.Join(c.Dir, "nats.log"),
		Ready:   c.ready,
	}, nil
}

// ready reads the server's greeting and asks for its health, JetStream's included.
func (c NATSConfig) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attemptWait)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", hostPort(c.Host, c.Port))
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	if !strings.HasPrefix(line, "INFO ") {
		return fmt.Errorf("nats: greeted with %.40q", line)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+hostPort(c.MonitorHost, c.MonitorPort)+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("nats: /healthz answered %s", resp.Status)
	}
	return nil
}

// runNATS is the body of the NATS child.
func runNATS(args []string) error {
	if len(args) != 1 {
		return errors.New("nats: want the configuration as one argument")
	}
	var cfg NATSConfig
	if err := json.Unmarshal([]byte(args[0]), &cfg); err != nil {
		return fmt.Errorf("nats: configuration: %w", err)
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	// A stream writes and syncs its messages one after the other. With a thread fewer to hand the rest over to at each sync
	// the same messages cost 10 to 17 % less CPU (measured on two cores, 25 KB each, three runs a side).
	runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM) //arch:signal this is the main of the child
	signal.Ignore(os.Interrupt)          // ^C is for the parent, which then stops its parts in order
	n := &NATS{cfg: cfg}
	if err := n.start(os.Stderr); err != nil {
		return err
	}
	<-stop
	n.Stop()
	return nil
}
