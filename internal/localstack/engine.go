package localstack

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// The oldest ClickHouse the SQL and the settings of this product were written for.
const (
	engineMajor = 25
	engineMinor = 8
)

// Engine is a ClickHouse that can be started: a clickhouse binary or the engine as a library.
type Engine struct {
	Path    string // of the binary or the library
	Version string
	Library bool // Path is a library, run by this program executed again
}

// Progress is told what takes long, a line at a time. It may be nil.
type Progress func(format string, args ...any)

func (p Progress) say(format string, args ...any) {
	if p != nil {
		p(format, args...)
	}
}

// EnsureEngine finds the clickhouse binary on PATH if it is 25.8 or newer; else it makes sure
// that the engine library is in the cache, fetching it once with npm. Any number of processes
// may call it at the same time.
func EnsureEngine(ctx context.Context, progress Progress) (Engine, error) {
	engine, err := installedEngine(ctx)
	if err == nil {
		return engine, nil
	}
	if !errors.Is(err, exec.ErrNotFound) {
		progress.say("not using the clickhouse on PATH: %v", err)
	}
	lib := pinnedLibrary()
	path, err := lib.ensure(ctx, progress)
	if err != nil {
		return Engine{}, fmt.Errorf("clickhouse engine: %w", err)
	}
	return Engine{Path: path, Version: lib.version, Library: true}, nil
}

// installedEngine is the clickhouse binary on PATH, if it is recent enough.
func installedEngine(ctx context.Context) (Engine, error) {
	path, err := exec.LookPath("clickhouse")
	if err != nil {
		return Engine{}, err
	}
	out, err := exec.CommandContext(ctx, path, "local", "--version").Output()
	if err != nil {
		return Engine{}, fmt.Errorf("%s local --version: %w", path, err)
	}
	version, major, minor, err := parseVersion(string(out))
	if err != nil {
		return Engine{}, fmt.Errorf("%s local --version: %w", path, err)
	}
	if major < engineMajor || major == engineMajor && minor < engineMinor {
		return Engine{}, fmt.Errorf("%s is version %s, need %d.%d or newer", path, version, engineMajor, engineMinor)
	}
	return Engine{Path: path, Version: version}, nil
}

// parseVersion finds the version in what `clickhouse local --version` prints:
// "ClickHouse local version 25.8.2.29 (official build)."
func parseVersion(out string) (version string, major, minor int, err error) {
	found := regexp.MustCompile(`\b(\d+)\.(\d+)(\.\d+)*`).FindStringSubmatch(out)
	if found == nil {
		return "", 0, 0, fmt.Errorf("no version in %q", out)
	}
	if major, err = strconv.Atoi(found[1]); err != nil {
		return "", 0, 0, err
	}
	if minor, err = strconv.Atoi(found[2]); err != nil {
		return "", 0, 0, err
	}
	return found[0], major, minor, nil
}
