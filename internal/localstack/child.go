package localstack

import (
	"fmt"
	"os"
)

// Hidden first arguments by which this program knows that it was started as a child.
const (
	childEngine = "__clickhouse-engine" // then the library's path and the engine's arguments
	childNATS   = "__nats"              // then the NATSConfig as JSON
)

// RunChild runs the part this process was started as, if it was: then ran is true and the
// caller must exit with code. It must come before flags are parsed.
func RunChild() (code int, ran bool) {
	if len(os.Args) < 2 {
		return 0, false
	}
	var err error
	switch os.Args[1] {
	case childEngine:
		err = runEngine(os.Args[2:])
	case childNATS:
		err = runNATS(os.Args[2:])
	default:
		return 0, false
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return 0, true
}

// self is the path by which this program can be executed again: its own file, or, when that
// was replaced or removed by a later build, the kernel's handle on the running one.
func self() string {
	const running = "/proc/self/exe"
	path, err := os.Executable()
	if err != nil {
		return running
	}
	a, errA := os.Stat(path)
	b, errB := os.Stat(running)
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		return running
	}
	return path
}
