// Command ingest takes events over HTTP and answers 202 once they are in the log, on disk.
//
// It needs NATS and nothing else. `ingest --help` lists every setting; docs/reference has them with
// their environment variables and YAML keys.
package main

import (
	"context"
	"os"

	"github.com/countinghouse/countinghouse/internal/config"
	"github.com/countinghouse/countinghouse/internal/ingest"
)

func main() {
	cmd := config.Service("ingest", "Take events over HTTP into the log", ingest.DefaultConfig(), ingest.Start)
	os.Exit(config.Run(context.Background(), cmd, os.Stderr))
}
