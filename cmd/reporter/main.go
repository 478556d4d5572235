// Command reporter answers questions about usage over HTTP: meters, months, the fate of events.
package main

import (
	"context"
	"os"

	"github.com/countinghouse/countinghouse/internal/config"
	"github.com/countinghouse/countinghouse/internal/reporter"
)

func main() {
	cmd := config.Service("reporter", "Answer questions about usage over HTTP", reporter.DefaultConfig(), reporter.Start)
	os.Exit(config.Run(context.Background(), cmd, os.Stderr))
}
