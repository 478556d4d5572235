package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countinghouse/countinghouse/internal/client"
	"github.com/countinghouse/countinghouse/internal/importer"
	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/stack"
)

type importFlags struct {
	mapping, tenant, state, name string
	batch, inFlight, dryRun      int
	resume                       bool
}

func (t *tool) eventsImport() *cobra.Command {
	f := importFlags{}
	cmd := &cobra.Command{
		Use:   "import FILE...",
		Short: "Import CSV, Apache logs or NDJSON as events",
		Long: `Imports files as events. A mapping file (YAML) says which column is what; without one every line of
the file is a CloudEvent already. Files may be compressed with gzip or zstd.

Ids are made of file name and line, so importing a file again, or after a kill, changes nothing: what the
log has already is counted as a duplicate. --resume only saves the time of sending it again.

Lines that cannot be mapped and events that ingest refuses are listed with their line numbers; the rest
is imported, and the exit code is 1. The key needs the scope events:backfill for events older than 35 days.

Mapping (examples/import/README.md has all of it, and three that work):

  format: csv                       # csv, combined (Apache log), ndjson, events
  source: billing-export
  subject: "{customer}"             # {column}, {column|default}, {column?}
  time: {from: "{when}", layout: "2006-01-02 15:04:05", zone: Europe/Berlin}
  events:
    - data: {meter: storage_gib, quantity: "{gib}", region: "{region?}"}`,
		Example: `  countinghouse events import usage.csv.gz --mapping usage.yaml --dry-run
  countinghouse events import usage.csv.gz --mapping usage.yaml --tenant acme
  countinghouse events import access.log --mapping examples/import/apache-access-log.yaml --resume
  countinghouse events import events.ndjson`,
		Args: arguments(1, anyNumber),
		RunE: func(cmd *cobra.Command, args []string) error { return t.importFiles(cmd.Context(), args, &f) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.mapping, "mapping", "", "mapping file (YAML)")
	fs.StringVar(&f.tenant, "tenant", "", "tenant to import into, with a key made for it and revoked after; needs an admin key (default: the key's own tenant)")
	fs.IntVar(&f.batch, "batch", 500, "events a request, up to 1000")
	fs.IntVar(&f.inFlight, "in-flight", 4, "requests under way at once, up to 64")
	fs.BoolVar(&f.resume, "resume", false, "go on after the last acknowledged line instead of sending everything again")
	fs.StringVar(&f.state, "state", "", "directory that remembers the last acknowledged line (default: import/ in --dir)")
	fs.StringVar(&f.name, "name", "", "what {file} is, where the file was renamed (default: its base name without .gz or .zst)")
	fs.IntVar(&f.dryRun, "dry-run", 0, "print the first N events (10 if no number is given) and send nothing")
	fs.Lookup("dry-run").NoOptDefVal = "10"
	_ = cmd.MarkFlagFilename("mapping", "yaml", "yml")
	return t.listingFlag(t.clientFlags(cmd))
}

func (t *tool) importFiles(ctx context.Context, files []string, f *importFlags) error {
	if f.batch < 1 || f.batch > 1000 {
		return usageError("--batch %d is not between 1 and 1000", f.batch)
	}
	if f.inFlight < 1 || f.inFlight > 64 {
		return usageError("--in-flight %d is not between 1 and 64", f.inFlight)
	}
	if f.name != "" && len(files) > 1 {
		return usageError("--name is for one file, or ids of different files would be the same")
	}
	format, err := t.format()
	if err != nil {
		return err
	}
	m, mappingText := importer.Verbatim(), "events"
	if f.mapping != "" {
		text, err := os.ReadFile(f.mapping)
		if err != nil {
			return usageError("read mapping: %w", err)
		}
		if m, err = importer.ParseMapping(f.mapping, text); err != nil {
			return err
		}
		mappingText = string(text)
	}
	if err := differentNames(files); err != nil {
		return err
	}
	if f.dryRun > 0 {
		return t.previewImport(files, m, f)
	}
	e, err := t.where.endpoints(needIngest)
	if err != nil {
		return err
	}
	if f.tenant != "" {
		drop, err := t.borrowKey(ctx, &e, f.tenant)
		if err != nil {
			return err
		}
		defer drop()
	}
	c, err := t.client(e)
	if err != nil {
		return err
	}
	run := importRun{tool: t, flags: f, client: c, mapping: m, mappingText: mappingText, target: e.Ingest + " " + f.tenant}
	if run.state = f.state; run.state == "" {
		run.state = filepath.Join(t.where.dir, "import")
	}
	return run.all(ctx, files, format)
}

// differentNames refuses two files with one name: their lines would have the same ids.
func differentNames(files []string) error {
	seen := map[string]string{}
	for _, path := range files {
		name := importer.PlainName(filepath.Base(path))
		if other, twice := seen[name]; twice {
			return usageError("%s and %s would give the same ids; import them one at a time with --name", other, path)
		}
		seen[name] = path
	}
	return nil
}

func (t *tool) previewImport(files []string, m *importer.Mapping, f *importFlags) error {
	bad := 0
	for _, path := range files {
		in, err := importer.Open(path)
		if err != nil {
			return usageError("%w", err)
		}
		docs, faults, err := importer.Preview(in, m, f.name, f.dryRun)
		_ = in.Close() // read only
		for _, doc := range docs {
			fmt.Fprintf(t.out, "%s\n", doc)
		}
		for _, fault := range faults {
			fmt.Fprintf(t.err, "countinghouse: %s: %v\n", path, &fault)
		}
		if err != nil {
			return err
		}
		bad += len(faults)
	}
	if bad > 0 {
		return no()
	}
	return nil
}

// importRun imports files one after the other.
type importRun struct {
	tool        *tool
	flags       *importFlags
	client      *client.Client
	mapping     *importer.Mapping
	mappingText string
	target      string
	state       string
}

func (r *importRun) all(ctx context.Context, files []string, format listing.Format) error {
	rows := listing.Rows{
		Columns: []string{"file", "read", "sent", "accepted", "rejected", "seconds"},
		Numbers: []string{"read", "sent", "accepted", "rejected", "seconds"},
	}
	rejected := 0
	for _, path := range files {
		begun := time.Now()
		sum, err := r.one(ctx, path)
		for _, fault := range sum.Faults {
			id := ""
			if fault.ID != "" {
				id = " (" + fault.ID + ")"
			}
			fmt.Fprintf(r.tool.err, "countinghouse: %s line %d%s rejected: %s: %s\n", sum.File, fault.Line, id, fault.Code, fault.Detail)
		}
		if more := sum.Rejected - len(sum.Faults); more > 0 {
			fmt.Fprintf(r.tool.err, "countinghouse: %s: %d more rejected, not listed\n", sum.File, more)
		}
		if err != nil {
			if ctx.Err() != nil {
				err = fmt.Errorf("stopped after line %d; go on with --resume", sum.Line)
			}
			return fmt.Errorf("import %s: %w", path, err)
		}
		rejected += sum.Rejected
		seconds := strconv.FormatFloat(time.Since(begun).Seconds(), 'f', 1, 64)
		rows.Add(sum.File, strconv.Itoa(sum.Read), strconv.Itoa(sum.Sent), strconv.Itoa(sum.Accepted), strconv.Itoa(sum.Rejected), seconds)
	}
	if err := rows.Print(r.tool.out, format); err != nil {
		return err
	}
	if rejected > 0 {
		return no()
	}
	return nil
}

func (r *importRun) one(ctx context.Context, path string) (importer.Summary, error) {
	sum := importer.Summary{File: path}
	in, err := importer.Open(path)
	if err != nil {
		return sum, usageError("%w", err)
	}
	defer func() { _ = in.Close() }() // read only
	opt := importer.Options{Batch: r.flags.batch, InFlight: r.flags.inFlight, Name: r.flags.name}
	bar := newProgress(r.tool.err, in)
	if path == "-" {
		if r.flags.resume {
			return sum, usageError("standard input cannot be resumed")
		}
		opt.Progress = func(s importer.Summary) { bar.show(s) }
		defer bar.done()
		return importer.Run(ctx, in, r.mapping, r.client, opt)
	}
	st, err := importer.OpenState(r.state, path, r.mappingText, strings.TrimSpace(r.target+" "+r.flags.name))
	if err != nil {
		return sum, err
	}
	if r.flags.resume {
		opt.From = st.Line
	} else {
		st.Line, st.Accepted, st.Rejected, st.Done = 0, 0, 0, false
	}
	earlier := *st
	saved := time.Now()
	note := func(s importer.Summary) error {
		st.Line, st.Accepted, st.Rejected = s.Line, earlier.Accepted+s.Accepted, earlier.Rejected+s.Rejected
		return st.Save()
	}
	opt.Progress = func(s importer.Summary) {
		bar.show(s)
		if time.Since(saved) > time.Second {
			saved = time.Now()
			if err := note(s); err != nil {
				bar.say("progress is not remembered: %v", err)
			}
		}
	}
	sum, err = importer.Run(ctx, in, r.mapping, r.client, opt)
	bar.done()
	st.Done = err == nil
	if serr := note(sum); serr != nil && err == nil {
		err = serr
	}
	if opt.From > 0 && earlier.Rejected > 0 {
		sum.Rejected += earlier.Rejected
	}
	return sum, err
}

// borrowKey makes a key of a tenant for the length of one import.
func (t *tool) borrowKey(ctx context.Context, e *stack.Endpoints, tenant string) (drop func(), err error) {
	keys, err := t.openKeys(ctx, *e)
	if err != nil {
		return nil, fmt.Errorf("key for tenant %s: %w", tenant, err)
	}
	made, err := keys.create(ctx, tenant, "events import", []string{"events:write", "events:backfill"}, 7*24*time.Hour)
	if err != nil {
		keys.close()
		return nil, fmt.Errorf("key for tenant %s: %w", tenant, err)
	}
	e.AdminToken = made.Key
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := keys.revoke(ctx, made.ID); err != nil && !errors.Is(err, context.Canceled) {
			fmt.Fprintf(t.err, "countinghouse: key %s of tenant %s was not revoked and ends in 7 days: %v\n", made.ID, tenant, err)
		}
		keys.close()
	}, nil
}
