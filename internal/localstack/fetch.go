package localstack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// CacheEnv overrides where engines are kept.
const CacheEnv = "COUNTINGHOUSE_ENGINE_CACHE"

const (
	lockPause   = 100 * time.Millisecond
	libraryMax  = 2 << 30 // bytes unpacked
	libraryFile = "libchdb.so"
)

// library is an engine as one shared object in an npm package, pinned by its content.
type library struct {
	spec      string // what npm packs: name@version
	version   string
	integrity string // sha512 of the package, as npm writes it
}

// pinnedLibrary is ClickHouse 26.7: 178 MB, 566 MB unpacked.
func pinnedLibrary() library {
	return library{
		spec:      "@chdb/lib-linux-x64-gnu@26.7.3-stable.1",
		version:   "26.7.3-stable.1",
		integrity: "sha512-XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==",
	}
}

// cacheDir is where engines are kept, one folder per version.
func cacheDir() (string, error) {
	if dir := os.Getenv(CacheEnv); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache directory (or set %s): %w", CacheEnv, err)
	}
	return filepath.Join(dir, "countinghouse", "engine"), nil
}

// ensure returns the path of the verified library, fetching it if needed.
func (l library) ensure(ctx context.Context, progress Progress) (string, error) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("there is no engine library for %s/%s: install clickhouse %d.%d or newer on PATH",
			runtime.GOOS, runtime.GOARCH, engineMajor, engineMinor)
	}
	dir, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, l.version)
	lib := filepath.Join(dir, libraryFile)
	if l.stamped(lib) {
		return lib, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("engine cache: %w", err)
	}
	unlock, err := lockFile(ctx, filepath.Join(dir, "lock"), progress)
	if err != nil {
		return "", fmt.Errorf("engine cache: %w", err)
	}
	defer unlock()
	if l.stamped(lib) { // another process was quicker
		return lib, nil
	}
	if err := l.fetch(ctx, dir, progress); err != nil {
		return "", err
	}
	return lib, nil
}

// stamped says whether lib is the file that was verified when it was unpacked. It looks at
// the size only: hashing half a gigabyte at each start would cost a second.
func (l library) stamped(lib string) bool {
	want, err := os.ReadFile(lib + ".stamp")
	if err != nil {
		return false
	}
	got, err := l.stamp(lib)
	return err == nil && string(want) == got
}

func (l library) stamp(lib string) (string, error) {
	info, err := os.Stat(lib)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s\n%d bytes\n", l.integrity, info.Size()), nil
}

// fetch fetches, verifies and unpacks the package. Library and stamp appear under
// their names only when they are whole.
func (l library) fetch(ctx context.Context, dir string, progress Progress) error {
	// We hold the lock, so anything half done is a dead process's.
	if old, err := filepath.Glob(filepath.Join(dir, "fetch-*")); err == nil {
		for _, path := range old {
			_ = os.RemoveAll(path) // costs disk, nothing else
		}
	}
	tmp, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return fmt.Errorf("engine cache: %w", err)
	}
	defer os.RemoveAll(tmp)
	progress.say("fetching the ClickHouse engine once with npm (178 MB, 566 MB unpacked) into %s", dir)
	archive, err := l.pack(ctx, tmp)
	if err != nil {
		return err
	}
	progress.say("verifying and unpacking the ClickHouse engine")
	if err := l.verify(archive); err != nil {
		return err
	}
	unpacked := filepath.Join(tmp, libraryFile)
	if err := unpack(archive, unpacked); err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(archive), err)
	}
	lib := filepath.Join(dir, libraryFile)
	if err := os.Rename(unpacked, lib); err != nil {
		return fmt.Errorf("engine cache: %w", err)
	}
	text, err := l.stamp(lib)
	if err != nil {
		return fmt.Errorf("engine cache: %w", err)
	}
	newStamp := filepath.Join(tmp, "stamp")
	if err := os.WriteFile(newStamp, []byte(text), 0o644); err != nil {
		return fmt.Errorf("engine cache: %w", err)
	}
	if err := os.Rename(newStamp, lib+".stamp"); err != nil {
		return fmt.Errorf("engine cache: %w", err)
	}
	return nil
}

// pack downloads the package into dir with npm, from whatever registry npm is set up with.
func (l library) pack(ctx context.Context, dir string) (string, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", fmt.Errorf("neither clickhouse %d.%d or newer nor npm is on PATH: install one of them (npm is needed once, to fetch %s)",
			engineMajor, engineMinor, l.spec)
	}
	cmd := exec.CommandContext(ctx, npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", dir, l.spec)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("npm pack %s: %w: %s", l.spec, err, bytes.TrimSpace(stderr.Bytes()))
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("npm pack %s: left %d archives in %s, want 1", l.spec, len(found), dir)
	}
	return found[0], nil
}

func (l library) verify(archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("verify engine: %w", err)
	}
	defer f.Close()
	h := sha512.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("verify engine: %w", err)
	}
	if got := "sha512-" + base64.StdEncoding.EncodeToString(h.Sum(nil)); got != l.integrity {
		return fmt.Errorf("verify engine: %s is %s, want %s; not used", l.spec, got, l.integrity)
	}
	return nil
}

// unpack writes the library of the archive, and only it, to dst and to disk.
func unpack(archive, dst string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	tr := tar.NewReader(zr)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("no %s in it", libraryFile)
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeReg && path.Base(h.Name) == libraryFile {
			return writeSynced(dst, io.LimitReader(tr, libraryMax))
		}
	}
}

func writeSynced(dst string, r io.Reader) error {
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, r); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return out.Close()
}

// lockFile takes an exclusive lock on a file, waiting for other processes (and other callers
// in this one). The lock ends with the process, so a crash leaves nothing behind.
func lockFile(ctx context.Context, name string, progress Progress) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(lockPause)
	defer ticker.Stop()
	said := false
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		if !said {
			progress.say("waiting for another process that is fetching the ClickHouse engine")
			said = true
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", name, ctx.Err())
		}
	}
}
