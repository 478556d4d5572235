package localstack_test

import (
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

// enginePackage makes an npm package in a folder that looks like the engine's, and returns
// what npm packs it by and its integrity.
func enginePackage(t *testing.T) (spec, integrity string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "package.json"), `{"name":"engine-of-test","version":"1.0.0"}`)
	write(t, filepath.Join(dir, "libchdb.so"), "not really an engine")
	out := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "npm", "pack", "--silent", "--pack-destination", out, dir)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm pack: %v: %s", err, text)
	}
	archive, err := os.ReadFile(filepath.Join(out, "engine-of-test-1.0.0.tgz"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512(archive)
	return dir, "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestEngineIsFetchedOnceByManyAtATime(t *testing.T) {
	cache := t.TempDir()
	t.Setenv(localstack.CacheEnv, cache)
	spec, integrity := enginePackage(t)
	// What a process that was killed while fetching left behind.
	if err := os.MkdirAll(filepath.Join(cache, "v1", "fetch-dead"), 0o755); err != nil {
		t.Fatal(err)
	}
	var fetches atomic.Int32
	progress := func(format string, args ...any) {
		if strings.HasPrefix(format, "fetching") {
			fetches.Add(1)
		}
	}
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			lib, err := localstack.EnsureLibrary(t.Context(), spec, "v1", integrity, progress)
			if err != nil {
				t.Error(err)
				return
			}
			if text, err := os.ReadFile(lib); err != nil || string(text) != "not really an engine" {
				t.Errorf("library has %q, %v", text, err)
			}
		})
	}
	callers.Wait()
	if n := fetches.Load(); n != 1 {
		t.Errorf("fetched %d times, want once", n)
	}
	if left, err := filepath.Glob(filepath.Join(cache, "v1", "fetch-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind %v, %v", left, err)
	}
}

func TestDamagedEngineIsFetchedAgain(t *testing.T) {
	t.Setenv(localstack.CacheEnv, t.TempDir())
	spec, integrity := enginePackage(t)
	lib, err := localstack.EnsureLibrary(t.Context(), spec, "v1", integrity, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(lib, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := localstack.EnsureLibrary(t.Context(), spec, "v1", integrity, nil); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(lib); err != nil || string(text) != "not really an engine" {
		t.Errorf("library has %q, %v", text, err)
	}
}

func TestForeignEngineIsRefused(t *testing.T) {
	cache := t.TempDir()
	t.Setenv(localstack.CacheEnv, cache)
	spec, _ := enginePackage(t)
	_, err := localstack.EnsureLibrary(t.Context(), spec, "v1", "sha512-other", nil)
	wantError(t, err, "verify engine", "want sha512-other", "not used")
	if left, err := filepath.Glob(filepath.Join(cache, "v1", "libchdb.so*")); err != nil || len(left) > 0 {
		t.Errorf("left behind %v, %v", left, err)
	}
}

func TestWithoutNPMTheErrorSaysWhatToInstall(t *testing.T) {
	t.Setenv(localstack.CacheEnv, t.TempDir())
	t.Setenv("PATH", t.TempDir())
	_, err := localstack.EnsureEngine(t.Context(), nil)
	wantError(t, err, "install", "npm", "clickhouse 25.8")
}

// A clickhouse on PATH is used when it is recent enough. The one of this test is a script
// that becomes the engine library under the command line of the binary.
func TestBinaryOnPathIsPreferred(t *testing.T) {
	library, err := localstack.EnsureEngine(t.Context(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if !library.Library {
		t.Log("a real clickhouse is on PATH; this test puts its own before it")
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	script := func(version string) {
		write(t, filepath.Join(bin, "clickhouse"), fmt.Sprintf(`#!/bin/sh
[ "$1" = local ] || exit 1
shift
if [ "$1" = --version ]; then echo "ClickHouse local version %s (official build)."; exit; fi
exec %s %s %s "$@"
`, version, exe, localstack.ChildEngine, library.Path))
	}

	script("18.16.1")
	engine, err := localstack.EnsureEngine(t.Context(), t.Logf)
	if err != nil || engine != library {
		t.Errorf("with 18.16.1 on PATH: %+v, %v; want the library", engine, err)
	}
	script("25.8.2.29")
	engine, err = localstack.EnsureEngine(t.Context(), t.Logf)
	if err != nil || engine.Library || engine.Version != "25.8.2.29" {
		t.Fatalf("with 25.8.2.29 on PATH: %+v, %v; want the binary", engine, err)
	}
	ch := localstack.Start(t, localstack.Options{NoNATS: true, ClickHouse: localstack.ClickHouseConfig{Engine: engine}}).ClickHouse
	if got := query(t, ch, "SELECT 6 * 7"); got != "42" {
		t.Errorf("the binary answered %s", got)
	}
}
