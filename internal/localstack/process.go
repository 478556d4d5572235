package localstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const (
	// StopGrace is how long a part may take to end by itself before it is killed. The engine
	// waits 5 s for clients that are still connected; the whole stack has to be down within 10.
	StopGrace = 8 * time.Second

	readyWait  = 2 * time.Minute // for recovery of a large store; a fresh one takes a second
	readyPause = 20 * time.Millisecond
	logKeep    = 16 << 20 // bytes; a log file larger than this starts again
	logTail    = 4 << 10  // bytes of it that go into an error
)

// Part describes a child process.
type Part struct {
	Name    string
	Exe     string                          // empty: this program itself
	Args    []string                        // without the program's name
	Env     []string                        // added to this process's environment
	Dir     string                          // working directory; empty: this process's
	LogFile string                          // gets stdout and stderr, appended; empty: discarded
	Prepare func() error                    // called before each start; nil: nothing to prepare
	Ready   func(ctx context.Context) error // one attempt; nil: ready once it runs

	// Hold gives the child a pipe as file descriptor 3 that ends when Stop is called or
	// this process is gone: its sign to end. Without it Stop sends SIGTERM.
	Hold bool
}

// Process is a running child. It leads a process group of its own and dies with this one.
type Process struct {
	part Part
	cmd  *exec.Cmd
	hold *os.File // our end of the pipe; nil without Hold
	once sync.Once
	done chan struct{}
	err  error // of Wait; read after done
}

// StartPart starts a child and waits until it is ready. On failure it is killed, and the
// error carries the end of its log.
func StartPart(ctx context.Context, part Part) (*Process, error) {
	p, err := spawn(part)
	if err != nil {
		return nil, err
	}
	if err := p.AwaitReady(ctx); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// spawn starts a child without waiting for anything.
func spawn(part Part) (*Process, error) {
	if part.Prepare != nil {
		if err := part.Prepare(); err != nil {
			return nil, fmt.Errorf("start %s: %w", part.Name, err)
		}
	}
	p := &Process{part: part, done: make(chan struct{})}
	exe := part.Exe
	if exe == "" {
		exe = self()
	}
	// Not CommandContext: a child ends by Stop or Kill, not with the context it started under.
	p.cmd = exec.Command(exe, part.Args...)
	p.cmd.Dir = part.Dir
	p.cmd.Env = append(os.Environ(), part.Env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	logFile, err := openLog(part.LogFile)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", part.Name, err)
	}
	defer logFile.Close()
	p.cmd.Stdout, p.cmd.Stderr = logFile, logFile
	if part.Hold {
		childEnd, ourEnd, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", part.Name, err)
		}
		defer childEnd.Close()
		p.cmd.ExtraFiles, p.hold = []*os.File{childEnd}, ourEnd
	}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		p.release()
		return nil, fmt.Errorf("start %s: %w", part.Name, err)
	}
	return p, nil
}

// run starts the child and waits for it on one thread that does nothing else: the kernel
// sends the parent-death signal when the *thread* that forked ends, and Go may end any other.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	p.release()
	close(p.done)
}

// PID is the child's process id, valid until it is done.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err waits for the end of the child and says how it ended; nil is exit code 0.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Killed says whether the child has ended by SIGKILL: somebody else's doing, not its own.
func (p *Process) Killed() bool {
	select {
	case <-p.done:
	default:
		return false
	}
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// Signal sends a signal to the child alone, for instance SIGSTOP and SIGCONT.
func (p *Process) Signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal %s to %s: %w", sig, p.part.Name, err)
	}
	return nil
}

// Kill is kill -9 of the child and everything it started; it returns when it is gone.
func (p *Process) Kill() {
	select {
	case <-p.done: // the group id may be another's by now
		return
	default:
	}
	_ = syscall.Kill(-p.PID(), syscall.SIGKILL) // gone already is as good
	<-p.done
}

// Stop asks the child to end, and kills it after grace. It returns when the child is gone,
// with an error if it had to be killed.
func (p *Process) Stop(grace time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // a frozen child cannot obey
	if p.part.Hold {
		p.release()
	} else {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		p.Kill()
		return fmt.Errorf("stop %s: still running after %s, killed", p.part.Name, grace)
	}
}

func (p *Process) release() {
	if p.hold != nil {
		p.once.Do(func() { _ = p.hold.Close() })
	}
}

// AwaitReady waits until the child answers.
func (p *Process) AwaitReady(ctx context.Context) error {
	if p.part.Ready == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	ticker := time.NewTicker(readyPause)
	defer ticker.Stop()
	for {
		err := p.part.Ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-p.done:
			return fmt.Errorf("start %s: %w%s", p.part.Name, endedError(p.err), p.tail())
		case <-ctx.Done():
			return fmt.Errorf("start %s: not ready: %w: %w%s", p.part.Name, ctx.Err(), err, p.tail())
		}
	}
}

func endedError(err error) error {
	if err == nil {
		return errors.New("it ended at once")
	}
	return err
}

// tail is the end of the child's log, for an error.
func (p *Process) tail() string {
	if p.part.LogFile == "" {
		return ""
	}
	f, err := os.Open(p.part.LogFile)
	if err != nil {
		return ""
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, end-logTail), io.SeekStart)
	}
	text, _ := io.ReadAll(io.LimitReader(f, logTail))
	return fmt.Sprintf("; its log %s ends:\n%s", p.part.LogFile, bytes.TrimSpace(text))
}

func openLog(path string) (*os.File, error) {
	if path == "" {
		return os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if info, err := os.Stat(path); err == nil && info.Size() > logKeep {
		flags |= os.O_TRUNC
	}
	return os.OpenFile(path, flags, 0o644)
}
