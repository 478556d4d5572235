package localstack

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"
)

// NATSChild is a NATS server as a process of its own, that can be killed.
type NATSChild struct {
	cfg NATSConfig

	mu   sync.Mutex
	proc *Process
}

// StartNATSChild starts a server as a child and waits until JetStream is healthy.
func StartNATSChild(ctx context.Context, cfg NATSConfig) (*NATSChild, error) {
	given := cfg
	for attempt := 1; ; attempt++ {
		cfg, err := given.withDefaults() // chooses ports
		if err != nil {
			return nil, err
		}
		n := &NATSChild{cfg: cfg}
		if err = n.start(ctx); err == nil {
			return n, nil
		}
		conflict := (given.Port == 0 || given.MonitorPort == 0) && strings.Contains(err.Error(), "address already in use")
		if !conflict || attempt == startAttempts {
			return nil, err
		}
	}
}

func (n *NATSChild) start(ctx context.Context) error {
	part, err := n.cfg.Part()
	if err != nil {
		return err
	}
	if n.cfg.Wrap != nil {
		if part, err = n.cfg.Wrap(part); err != nil {
			return err
		}
	}
	proc, err := StartPart(ctx, part)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.proc = proc
	return nil
}

// Process is the process that runs now; Restart replaces it.
func (n *NATSChild) Process() *Process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc
}

// URL is where clients connect.
func (n *NATSChild) URL() string { return "nats://" + hostPort(n.cfg.Host, n.cfg.Port) }

// MonitorURL serves /varz, /jsz, /healthz.
func (n *NATSChild) MonitorURL() string {
	return "http://" + hostPort(n.cfg.MonitorHost, n.cfg.MonitorPort)
}

// PID is the server's process id.
func (n *NATSChild) PID() int { return n.Process().PID() }

// Kill is kill -9.
func (n *NATSChild) Kill() { n.Process().Kill() }

// Signal sends a signal, for instance SIGSTOP and SIGCONT.
func (n *NATSChild) Signal(sig syscall.Signal) error { return n.Process().Signal(sig) }

// Stop shuts the server down in order, and kills it after grace. Stopped already is fine.
func (n *NATSChild) Stop(grace time.Duration) error { return n.Process().Stop(grace) }

// Restart stops the server if it runs and starts it again on the same directory and ports.
func (n *NATSChild) Restart(ctx context.Context) error {
	_ = n.Stop(StopGrace) // ended or killed: both leave a directory to go on from
	return n.start(ctx)
}

// natsLog writes what a server has to say, and keeps the reason it gives for giving up: the
// server reports a port that is taken by Fatalf and expects the process to end there.
type natsLog struct {
	out   io.Writer
	fatal chan string // holds one
}

func (l *natsLog) line(level, format string, v ...any) {
	fmt.Fprintf(l.out, "%s [%s] %s\n", time.Now().UTC().Format(time.RFC3339Nano), level, fmt.Sprintf(format, v...))
}

// Fatalf implements server.Logger.
func (l *natsLog) Fatalf(format string, v ...any) {
	l.line("fatal", format, v...)
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default: // the first reason is the one that counts
	}
}

// Noticef implements server.Logger.
func (l *natsLog) Noticef(format string, v ...any) { l.line("info", format, v...) }

// Warnf implements server.Logger.
func (l *natsLog) Warnf(format string, v ...any) { l.line("warn", format, v...) }

// Errorf implements server.Logger.
func (l *natsLog) Errorf(format string, v ...any) { l.line("error", format, v...) }

// Debugf implements server.Logger.
func (l *natsLog) Debugf(string, ...any) {}

// Tracef implements server.Logger.
func (l *natsLog) Tracef(string, ...any) {}
