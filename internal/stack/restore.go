package stack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

// EmptyLog is a NATS server on a directory that had none, for a restore.
type EmptyLog struct {
	dir    string
	locked *os.File
	server *localstack.NATS
}

// StartEmptyLog starts a server in DIR, which must hold neither a log nor a warehouse: a warehouse that
// is ahead of its log would be taken for one of another log.
func StartEmptyLog(dir string) (*EmptyLog, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	locked, err := lock(dir)
	if err != nil {
		return nil, err
	}
	for _, part := range []string{PartNATS, PartClickHouse} {
		if entries, err := os.ReadDir(filepath.Join(dir, part)); err == nil && len(entries) > 0 {
			_ = locked.Close() // nothing was done
			return nil, fmt.Errorf("%s holds data already; restore into an empty directory", filepath.Join(dir, part))
		}
	}
	// One partition is what `up` has; the streams of the backup bring their own settings.
	server, err := localstack.StartNATS(localstack.NATSConfig{Dir: filepath.Join(dir, PartNATS)})
	if err != nil {
		_ = locked.Close() // the error says more
		return nil, err
	}
	return &EmptyLog{dir: dir, locked: locked, server: server}, nil
}

// URL is where clients connect.
func (e *EmptyLog) URL() string { return e.server.URL() }

// Stop stops the server; without keep the half-made log is removed.
func (e *EmptyLog) Stop(keep bool) error {
	e.server.Stop()
	var err error
	if !keep {
		err = os.RemoveAll(filepath.Join(e.dir, PartNATS))
	}
	return errors.Join(err, e.locked.Close())
}
