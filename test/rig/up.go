package rig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/stack"
)

// Up is `countinghouse up` in a directory, instead of parts of the rig's own: it keeps its parts running
// itself. Load and oracle work as with any rig; there are no parts to kill but `up` as a whole.
func Up(t *testing.T, program, dir string) *Rig {
	t.Helper()
	r := &Rig{t: t, ctx: context.WithoutCancel(t.Context()), dir: dir, opts: Options{Partitions: 1, ClickHouses: 1, Tenants: Tenants()}, tokens: map[string]string{}, keys: map[string]string{}}
	part := localstack.Part{
		Name: "up", Exe: program, Args: []string{"up", "--ephemeral", "--dir", dir}, LogFile: filepath.Join(dir, "up.txt"),
		Ready: func(context.Context) error { _, err := stack.LoadEndpoints(dir); return err },
	}
	proc, err := localstack.StartPart(r.ctx, part)
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
	r.keep("up", filepath.Join(dir, "logs", "up.log"), proc, func(ctx context.Context) (*localstack.Process, error) {
		return localstack.StartPart(ctx, part)
	})
	if err := r.find(dir); err != nil {
		t.Fatalf("rig: %v", err)
	}
	err = r.control(func(_ *eventlog.Log, store *control.Store) error {
		for _, tenant := range r.opts.Tenants {
			if err := r.retry("make a key", func(ctx context.Context) (err error) {
				r.keys[tenant], r.tokens[tenant], err = store.Create(ctx, tenant, "rig", []string{"events:write"}, time.Time{})
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
	return r
}

// find takes the addresses from what `up` says.
func (r *Rig) find(dir string) error {
	e, err := stack.LoadEndpoints(dir)
	if err != nil {
		return err
	}
	r.ports = make([]int, 4)
	for i, address := range map[int]string{0: e.Ingest, 1: e.Admin[stack.PartIngest], 2: e.ClickHouse, 3: e.ClickHouseHTTP} {
		u, err := url.Parse(address)
		if err != nil {
			return err
		}
		if r.ports[i], err = strconv.Atoi(u.Port()); err != nil {
			return fmt.Errorf("endpoint %s: %w", address, err)
		}
	}
	r.servers = []*natsServer{{url: e.NATS, monitor: e.Monitor, dir: filepath.Join(dir, stack.PartNATS)}}
	return nil
}

// PIDs are the processes that `up` keeps running.
func (r *Rig) PIDs() map[string]int {
	e, err := stack.LoadEndpoints(r.dir)
	if err != nil {
		return nil
	}
	return e.PIDs
}

// Disk is a small disk: a tmpfs with something else on it, that can be taken away.
type Disk struct {
	t   *testing.T
	Dir string
}

// NewDisk mounts a disk of some bytes on a folder. It needs root.
func NewDisk(t *testing.T, dir string, size int64) *Disk {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Fatalf("root is needed to mount a small disk (sudo, or unshare --user --map-root-user --mount): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return &Disk{t: t, Dir: dir}
}

// Free is how many bytes the disk still takes.
func (d *Disk) Free() int64 {
	d.t.Helper()
	var disk syscall.Statfs_t
	if err := syscall.Statfs(d.Dir, &disk); err != nil {
		d.t.Fatal(err)
	}
	return int64(disk.Bavail) * disk.Bsize
}

// Fill leaves so many bytes free; Empty takes away what Fill put there.
func (d *Disk) Fill(leave int64) {
	d.t.Helper()
	f, err := os.OpenFile(d.other(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for free := d.Free(); free > leave; free = d.Free() {
		_, err := f.Write(make([]byte, min(free-leave, 1<<20)))
		if errors.Is(err, syscall.ENOSPC) {
			return // somebody else was faster
		}
		if err != nil {
			d.t.Fatalf("fill the disk: %v", err)
		}
	}
}

// Empty undoes Fill.
func (d *Disk) Empty() {
	d.t.Helper()
	if err := os.Remove(d.other()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.t.Fatal(err)
	}
}

func (d *Disk) other() string { return filepath.Join(d.Dir, "somebody-elses.data") }
