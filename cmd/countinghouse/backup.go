package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/backup"
	"github.com/countinghouse/countinghouse/internal/client"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/stack"
)

func (t *tool) backup() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Copy the log and the control state to one file",
		Long: `Copies the log and the control state (keys, months, schedules) to one file with checksums, while
everything runs. The warehouse is not in it: it is a projection of the log and is built again from it.`,
		Example: `  countinghouse backup --to /var/backups            # a file named by the time
  countinghouse backup --to before-upgrade.tar`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return usageError("--to is missing: a directory, or the file to write")
			}
			if _, err := t.format(); err != nil {
				return err
			}
			e, err := t.where.endpoints(needNATS)
			if err != nil {
				return err
			}
			l, err := openLog(cmd.Context(), e)
			if err != nil {
				return err
			}
			defer l.Close()
			file, m, err := backup.Create(cmd.Context(), l.Conn(), to, time.Now(), nil)
			if err != nil {
				return err
			}
			fmt.Fprintf(t.err, "wrote %s\n", file)
			return t.streams(m)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "directory, or file to write")
	return t.listingFlag(t.serverFlags(cmd))
}

func (t *tool) restore() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Make a log from a backup, in an empty directory or on an empty NATS server",
		Long: `Makes the log and the control state from a backup: into --dir, which "up" then brings up, or on a
running NATS server with --nats. Nothing that exists is touched, and nothing is made before every
checksum of the file is verified. The aggregator then builds the warehouse from the log; "audit" proves
the result. API keys of the backup work again; "up" makes an admin key of its own.`,
		Example: `  countinghouse restore --from before-upgrade.tar --dir ./restored && countinghouse up --dir ./restored
  countinghouse restore --from before-upgrade.tar --nats nats://nats1:4222`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" {
				return usageError("--from is missing: the backup file")
			}
			if _, err := t.format(); err != nil {
				return err
			}
			if _, err := os.Stat(from); err != nil {
				return usageError("%w", err)
			}
			m, err := t.restoreFrom(cmd.Context(), from)
			if err != nil {
				return err
			}
			return t.streams(m)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "backup file")
	return t.listingFlag(t.serverFlags(cmd))
}

func (t *tool) restoreFrom(ctx context.Context, from string) (m backup.Manifest, err error) {
	url := t.where.nats
	if url == "" {
		if _, err := backup.Verify(from); err != nil { // before anything is made in the directory
			return m, err
		}
		n, err := stack.StartEmptyLog(t.where.dir)
		if err != nil {
			return m, err
		}
		defer func() {
			if serr := n.Stop(err == nil); serr != nil && err == nil {
				err = serr
			}
		}()
		url = n.URL()
	}
	l, err := openLog(ctx, stack.Endpoints{NATS: url})
	if err != nil {
		return m, err
	}
	defer l.Close()
	return backup.Restore(ctx, l.Conn(), from, func(s backup.Stream) {
		fmt.Fprintf(t.err, "restored %s, %d messages\n", s.Stream, s.Messages)
	})
}

func (t *tool) streams(m backup.Manifest) error {
	rows := listing.Rows{Columns: []string{"stream", "messages", "last_seq", "bytes", "sha256"}, Numbers: []string{"messages", "last_seq", "bytes"}}
	for _, s := range m.Streams {
		rows.Add(s.Stream, strconv.FormatUint(s.Messages, 10), strconv.FormatUint(s.LastSeq, 10), strconv.FormatInt(s.Bytes, 10), s.SHA256)
	}
	return t.print(&rows)
}

const (
	connectWait = 2 * time.Second  // one attempt; where nobody listens after it, nobody will
	answerWait  = 30 * time.Second // for a server that is there and busy
)

// openLog is a log that answers, or ErrUnreachable.
func openLog(ctx context.Context, e stack.Endpoints) (*eventlog.Log, error) {
	cfg := eventlog.DefaultConfig()
	cfg.URL, cfg.Name = e.NATS, "countinghouse-cli"
	if e.Monitor != "" {
		cfg.MonitorURLs = strings.Split(e.Monitor, ",")
	}
	l, err := eventlog.Dial(cfg, zap.NewNop())
	if err != nil {
		return nil, usageError("--nats: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	for begun := time.Now(); ; {
		streams, err := streamsOf(ctx, l)
		if err == nil {
			return openPartitions(cfg, l, streams)
		}
		if ctx.Err() != nil || time.Since(begun) >= connectWait && !listening(ctx, e.NATS) {
			l.Close()
			return nil, errors.Join(fmt.Errorf("NATS at %s %w", e.NATS, client.ErrUnreachable), err)
		}
		rested(ctx, 100*time.Millisecond)
	}
}

func streamsOf(ctx context.Context, l *eventlog.Log) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	return l.Conn().Streams(ctx)
}

// openPartitions opens the log with as many partitions as it has: the tool is not told.
func openPartitions(cfg eventlog.Config, l *eventlog.Log, streams []string) (*eventlog.Log, error) {
	n := 0
	for _, name := range streams {
		if strings.HasPrefix(name, "USAGE_") {
			n++
		}
	}
	if n <= l.Partitions() {
		return l, nil
	}
	l.Close()
	cfg.Partitions = n
	l, err := eventlog.Dial(cfg, zap.NewNop())
	if err != nil {
		return nil, usageError("--nats: %w", err)
	}
	return l, nil
}
