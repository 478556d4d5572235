package localstack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Files that a NATS server writes when it makes a stream: what it is, and the checksum of that.
const (
	streamMeta = "meta.inf"
	streamSum  = "meta.sum"
)

// forgetUnborn removes the folders of streams that a server was killed while it made: they have no complete description
// and hold nothing, and nobody was told that they are there. The server would take them for streams that it cannot
// recover and call itself unhealthy for ever. A folder that holds anything is left as it is. No server may be running.
func forgetUnborn(storeDir string) error {
	streams, err := filepath.Glob(filepath.Join(storeDir, "jetstream", "*", "streams", "*"))
	if err != nil {
		return fmt.Errorf("nats: streams below %s: %w", storeDir, err)
	}
	for _, dir := range streams {
		without, err := unborn(dir)
		if err == nil && without {
			err = os.RemoveAll(dir)
		}
		if err != nil {
			return fmt.Errorf("nats: stream %s: %w", filepath.Base(dir), err)
		}
	}
	return nil
}

// unborn reports whether a stream's folder lacks its description and has nothing else.
func unborn(dir string) (bool, error) {
	described := 0
	for _, name := range []string{streamMeta, streamSum} {
		switch _, err := os.Stat(filepath.Join(dir, name)); {
		case err == nil:
			described++
		case !errors.Is(err, fs.ErrNotExist):
			return false, err
		}
	}
	if described == 2 {
		return false, nil
	}
	empty := true
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name := strings.TrimSuffix(entry.Name(), ".tmp")
		if filepath.Dir(path) == dir && (name == streamMeta || name == streamSum) {
			return nil
		}
		info, err := entry.Info()
		if err == nil && info.Size() > 0 {
			empty = false
		}
		return err
	})
	return empty, err
}
