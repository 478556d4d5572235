package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countinghouse/countinghouse/internal/client"
	"github.com/countinghouse/countinghouse/internal/config"
	"github.com/countinghouse/countinghouse/internal/importer"
	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/stack"
)

// tool is what every command shares: the streams, and the flags that all of them have.
type tool struct {
	in       io.Reader
	out, err io.Writer
	started  bool // the command line was understood; later errors are not about usage

	output string
	where  connection
}

func newTool(in io.Reader, out, err io.Writer) *tool { return &tool{in: in, out: out, err: err} }

func execute(ctx context.Context, t *tool, args []string) int {
	root := t.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return config.ExitOK
	}
	code := t.exitCode(err)
	if text := oneLine(err); text != "" {
		fmt.Fprintf(t.err, "%s: %s\n", root.Name(), text)
	}
	if code == config.ExitUsage {
		fmt.Fprintf(t.err, "see: %s --help\n", cmd.CommandPath())
	}
	return code
}

// exitCode maps an error to the exit codes of the package comment.
func (t *tool) exitCode(err error) int {
	var exit *config.ExitError
	var mapping *importer.MappingError
	var inUse *stack.InUseError
	var refused *problem.Problem
	switch {
	case errors.As(err, &exit):
		return exit.Code
	case !t.started:
		return config.ExitUsage
	case errors.Is(err, client.ErrUnreachable), errors.As(err, &inUse), errors.Is(err, stack.ErrNotRunning):
		return config.ExitUnreachable
	case errors.As(err, &mapping):
		return config.ExitConfig
	case errors.As(err, &refused) && refused.Status == http.StatusBadRequest:
		return config.ExitUsage // what the server could not read was given here
	}
	return config.ExitCode(err)
}

// oneLine is the error without line ends: a script reads stderr line by line.
func oneLine(err error) string {
	if errors.Is(err, errSilent) {
		return ""
	}
	return strings.Join(strings.FieldsFunc(err.Error(), func(c rune) bool { return c == '\n' || c == '\r' }), "; ")
}

// errSilent ends a command whose output has said everything, with the exit code around it.
var errSilent = errors.New("already said")

// no is the answer "no": exit 1 without another line on stderr.
func no() error { return &config.ExitError{Code: config.ExitNo, Err: errSilent} }

func usageError(format string, args ...any) error {
	return &config.ExitError{Code: config.ExitUsage, Err: fmt.Errorf(format, args...)}
}

func (t *tool) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "countinghouse",
		Short: "Usage metering that can be proven",
		Long: `Countinghouse counts every acknowledged usage event exactly once and turns the events into
month-end numbers that can be traced back to them.

Start the whole stack on this machine, then talk to it from another terminal:

  countinghouse up --demo
  countinghouse events send --meter api_calls --account acme --quantity 3
  countinghouse audit

Commands that talk to a stack find it by --dir (its endpoints.json), or by --url, --reporter-url and
--token, or by COUNTINGHOUSE_URL, COUNTINGHOUSE_REPORTER_URL and COUNTINGHOUSE_TOKEN.

Exit codes: 0 done, 1 the answer is "no", 64 wrong usage, 69 a server is unreachable, 78 bad configuration.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRun: func(*cobra.Command, []string) {
			t.started = true
		},
	}
	root.SetIn(t.in)
	root.SetOut(t.out)
	root.SetErr(t.err)
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run"},
		&cobra.Group{ID: "use", Title: "Use"},
		&cobra.Group{ID: "care", Title: "Look after"},
	)
	root.SetHelpCommandGroupID("care")
	root.SetCompletionCommandGroupID("care")
	root.CompletionOptions.HiddenDefaultCmd = false
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("run", t.up())
	add("use", t.events(), t.report(), t.schedule(), t.explain(), t.month(), t.dlq(), t.audit())
	add("care", t.doctor(), t.config(), t.keys(), t.operators(), t.roles(), t.migrate(), t.rebuild(), t.repair(), t.backup(), t.restore(), t.version())
	root.AddCommand(parts()...)
	group(root)
	dateExamples(root, time.Now())
	return root
}

// group makes a command with subcommands print its help, and refuse what is none of them.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		hint := ""
		if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
			hint = fmt.Sprintf("; did you mean %s?", strings.Join(s, " or "))
		}
		return fmt.Errorf("%q is not a command of %s%s", args[0], cmd.CommandPath(), hint)
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// listingFlag gives a command -o.
func (t *tool) listingFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVarP(&t.output, "output", "o", string(listing.Table), "table, json or csv")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "csv"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (t *tool) format() (listing.Format, error) {
	f, err := listing.Parse(t.output)
	if err != nil {
		return f, usageError("%w", err)
	}
	return f, nil
}

// print writes rows in the format of -o.
func (t *tool) print(rows *listing.Rows) error {
	f, err := t.format()
	if err != nil {
		return err
	}
	return rows.Print(t.out, f)
}

// terminal reports whether a stream is a person's.
func terminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}
