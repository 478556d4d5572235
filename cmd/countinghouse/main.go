// Command countinghouse is the tool people type: it runs the whole stack on one machine, sends and
// imports events, and answers questions about what became of them.
//
// It exits 0 when done, 1 when the answer is "no", 64 for wrong usage, 69 when a server is unreachable
// and 78 for a bad configuration; errors are one line on stderr that says what to do.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

func main() {
	if code, ran := localstack.RunChild(); ran {
		os.Exit(code)
	}
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return execute(ctx, newTool(os.Stdin, os.Stdout, os.Stderr), os.Args[1:])
}
