package localstack

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// engineEntry is the `clickhouse local` command line as a C function:
// local_result_v2 * query_stable_v2(int argc, char ** argv).
const engineEntry = "query_stable_v2"

// engineResult is struct local_result_v2 of the library: output, its length, its owner,
// seconds, rows, bytes, and the error as a zero-terminated string, nil when all went well.
type engineResult struct {
	_       *byte
	_       uintptr
	_       *byte
	_       [3]uint64
	message *byte
}

// runEngine is the body of the engine child: it turns this process into `clickhouse local`
// and returns when the engine has shut down.
func runEngine(args []string) error {
	if len(args) < 2 {
		return errors.New("clickhouse engine: no library or no arguments given")
	}
	// The engine takes this thread for its main thread.
	runtime.LockOSThread()
	lib, err := purego.Dlopen(args[0], purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return fmt.Errorf("clickhouse engine: load library: %w", err)
	}
	entry, err := purego.Dlsym(lib, engineEntry)
	if err != nil {
		return fmt.Errorf("clickhouse engine: %s: %w", args[0], err)
	}
	if err := surviveResets(args[0], entry); err != nil {
		fmt.Fprintf(os.Stderr, "clickhouse engine: a client that resets its connection will end it: %v\n", err)
	}
	argv := append([]string{"clickhouse-local"}, args[1:]...)
	cstrings := make([]*byte, len(argv)+1) // argv ends with a nil
	for i, a := range argv {
		cstrings[i] = &append([]byte(a), 0)[0]
	}
	var run func(argc int32, argv **byte) *engineResult
	purego.RegisterFunc(&run, entry)
	result := run(int32(len(argv)), &cstrings[0])
	runtime.KeepAlive(cstrings)
	if result != nil && result.message != nil {
		return fmt.Errorf("clickhouse engine: %s", cString(result.message))
	}
	fmt.Fprintln(os.Stderr, "clickhouse engine: stopped")
	return nil
}

// cString copies a zero-terminated string that C owns, up to 64 KiB.
func cString(p *byte) string {
	const maxLen = 64 << 10
	n := 0
	for n < maxLen && *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 {
		n++
	}
	return string(unsafe.Slice(p, n))
}
