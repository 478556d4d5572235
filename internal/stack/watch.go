package stack

import (
	"context"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
)

const (
	watchEvery = 5 * time.Second
	// From so much free space on writing makes sense again; on a small disk from a tenth of it.
	roomBytes = 1 << 30
	roomShare = 10
)

// watchLog restarts NATS when it stopped writing because the disk was full and there is room again: the
// server does not recover by itself (measured on 2.15), and answers no append at all until restarted.
// What it acknowledged is on disk, so killing it loses nothing.
func (s *Stack) watchLog(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !stuck(ctx, s.Endpoints().Monitor) {
			continue
		}
		var fs syscall.Statfs_t // of its own folder, which may be a disk of its own
		if err := syscall.Statfs(s.path(PartNATS), &fs); err != nil || !room(fs) {
			s.log.Warn("nats cannot write: the disk is full; it is restarted when there is room", zap.Error(err))
			continue
		}
		s.log.Warn("nats stopped writing when the disk was full, and there is room again; restarting it")
		if pid := s.sup.PIDs()[PartNATS]; pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // ended already is as good
		}
	}
}

func room(fs syscall.Statfs_t) bool {
	size := uint64(fs.Bsize)
	return fs.Bavail*size >= min(roomBytes, fs.Blocks*size/roomShare)
}

// stuck reports whether the server says that it cannot write. A server that does not answer is being
// restarted by the supervisor.
func stuck(ctx context.Context, monitor string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, monitor+"/healthz", nil)
	if err != nil {
		return false
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }() // read below
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return err == nil && resp.StatusCode != http.StatusOK && strings.Contains(string(body), "write error")
}
