package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countinghouse/countinghouse/internal/client"
	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

// jobAsked is how often a job is asked for while a command waits for it.
const jobAsked = 300 * time.Millisecond

// reportJob is a job as the reporter shows it.
type reportJob struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Report    string    `json:"report"`
	Format    string    `json:"format"`
	State     string    `json:"state"`
	Rows      int64     `json:"rows"`
	Error     string    `json:"error"`
	Parameter string    `json:"parameter"`
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by"`
	Schedule  string    `json:"schedule"`
	Run       string    `json:"run"`
	File      *struct {
		Name      string    `json:"name"`
		Bytes     int64     `json:"bytes"`
		SHA256    string    `json:"sha256"`
		RemovedAt time.Time `json:"removed_at"`
	} `json:"file"`
	Mails []struct {
		Recipient string `json:"recipient"`
		State     string `json:"state"`
		Error     string `json:"error"`
		Repeated  bool   `json:"repeated"`
	} `json:"mails"`
	raw json.RawMessage
}

func (j *reportJob) ended() bool { return j.State != "queued" && j.State != "running" }

// mailed says what became of the mails: "2 sent, 1 failed".
func (j *reportJob) mailed() string {
	count := map[string]int{}
	for _, m := range j.Mails {
		count[m.State]++
	}
	var words []string
	for _, state := range []string{"sent", "waiting", "sending", "failed"} {
		if n := count[state]; n > 0 {
			words = append(words, strconv.Itoa(n)+" "+state)
		}
	}
	return strings.Join(words, ", ")
}

// trouble is what went wrong, of the report or of a mail.
func (j *reportJob) trouble() string {
	if j.Error != "" && j.Parameter != "" {
		return j.Parameter + ": " + j.Error
	}
	text := j.Error
	for _, m := range j.Mails {
		if m.State == "failed" {
			text = cmp.Or(text, m.Recipient+": "+m.Error)
		}
	}
	return text
}

func getJob(ctx context.Context, c *client.Client, id string) (*reportJob, error) {
	j := &reportJob{}
	if err := c.Get(ctx, "/report-jobs/"+url.PathEscape(id), nil, &j.raw); err != nil {
		return nil, err
	}
	return j, j.read()
}

// postJob makes a job, or changes one, and answers it as it is then.
func postJob(ctx context.Context, c *client.Client, path string, body any) (*reportJob, error) {
	j := &reportJob{}
	if err := c.Call(ctx, http.MethodPost, path, body, &j.raw); err != nil {
		return nil, err
	}
	return j, j.read()
}

func (j *reportJob) read() error {
	if err := json.Unmarshal(j.raw, j); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

func (t *tool) showJob(f listing.Format, j *reportJob) error {
	if f == listing.JSON {
		return listing.Document(t.out, j.raw)
	}
	rows := jobRows()
	j.add(rows)
	return rows.Print(t.out, f)
}

func jobRows() *listing.Rows {
	return &listing.Rows{Columns: []string{"id", "report", "name", "state", "rows", "mails", "created_at", "created_by", "error"}, Numbers: []string{"rows"}}
}

func (j *reportJob) add(rows *listing.Rows) {
	rows.Add(j.ID, j.Report, j.Name, j.State, strconv.FormatInt(j.Rows, 10), j.mailed(), rfc3339(j.CreatedAt), j.CreatedBy, j.trouble())
}

func (t *tool) reportRun() *cobra.Command {
	var params []string
	var body struct {
		Report      string            `json:"report"`
		Parameters  map[string]string `json:"parameters"`
		Format      string            `json:"format,omitempty"`
		Raw         bool              `json:"raw,omitempty"`
		Name        string            `json:"name,omitempty"`
		Description string            `json:"description,omitempty"`
		AsOf        string            `json:"as_of,omitempty"`
		KeepDays    int               `json:"keep_days,omitempty"`
		Recipients  string            `json:"recipients,omitempty"`
	}
	var wait bool
	var out string
	cmd := &cobra.Command{
		Use:   "run REPORT",
		Short: "Make a report in the background; the file is kept",
		Long: `Makes a report in the background, of any size. The file is kept (365 days by default) and can be made again to
the same bytes. Without --wait the command prints the job and ends; report jobs and report fetch go on from there.`,
		Example: `  countinghouse report run monthly-usage -p month={last} --wait --out .
  countinghouse report run tenant-usage -p account=northwind -p period=last_month --mail finance@example.com`,
		Args: arguments(1, 1), ValidArgs: reportNames(),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := t.format()
			if err != nil {
				return err
			}
			body.Report = args[0]
			if body.Parameters, err = parametersGiven(params); err != nil {
				return err
			}
			c, err := t.reader()
			if err != nil {
				return err
			}
			j, err := postJob(cmd.Context(), c, "/report-jobs", body)
			if err != nil {
				return err
			}
			if wait || out != "" {
				if j, err = t.awaitJob(cmd.Context(), c, j); err != nil {
					return err
				}
			}
			if out != "" && j.State == "done" {
				return t.fetchJob(cmd.Context(), c, j, out)
			}
			if err := t.showJob(f, j); err != nil || !j.ended() || j.State == "done" {
				return err
			}
			return no()
		},
	}
	cmd.Flags().StringArrayVarP(&params, "param", "p", nil, "a parameter as `name=value`, as often as needed")
	cmd.Flags().StringVar(&body.Format, "format", "", sheet.FormatNames()+" (default csv)")
	cmd.Flags().BoolVar(&body.Raw, "raw", false, "CSV without the guard against formulas")
	cmd.Flags().StringVar(&body.Name, "name", "", "for people (default: the report's title)")
	cmd.Flags().StringVar(&body.Description, "description", "", "for people")
	cmd.Flags().StringVar(&body.AsOf, "as-of", "", "only what was recorded at or before this `instant` (RFC 3339)")
	cmd.Flags().IntVar(&body.KeepDays, "keep-days", 0, "days that the file is kept, 1 to 1826 (default 365)")
	cmd.Flags().StringVar(&body.Recipients, "mail", "", "send the file to these `addresses`, separated by commas")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for the end; exit 1 if it failed")
	cmd.Flags().StringVar(&out, "out", "", "wait, then write to this `file`, or in this folder under the suggested name; - is stdout")
	return t.listingFlag(t.clientFlags(cmd))
}

// awaitJob asks for a job until it has ended.
func (t *tool) awaitJob(ctx context.Context, c *client.Client, j *reportJob) (*reportJob, error) {
	tick := time.NewTicker(jobAsked)
	defer tick.Stop()
	drawn := false
	for !j.ended() {
		if terminal(t.err) {
			drawn = true
			fmt.Fprintf(t.err, "\r\033[K%s: %s, %d rows", j.Report, j.State, j.Rows)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
		var err error
		if j, err = getJob(ctx, c, j.ID); err != nil {
			return nil, err
		}
	}
	if drawn {
		fmt.Fprint(t.err, "\r\033[K")
	}
	return j, nil
}

// fetchJob writes the file of a job: whole or not at all.
func (t *tool) fetchJob(ctx context.Context, c *client.Client, j *reportJob, out string) error {
	path := "/report-jobs/" + url.PathEscape(j.ID) + "/file"
	fetch := func(w io.Writer, head func(http.Header) error) error { return c.Stream(ctx, path, nil, w, head) }
	if out == "-" {
		return fetch(t.out, func(http.Header) error { return nil })
	}
	return t.fetchFile(fetch, &newFile{path: out, ending: sheet.Format(j.Format).Extension(), fallback: j.ID})
}

func (t *tool) reportJobs() *cobra.Command {
	var state, schedule string
	cmd := &cobra.Command{
		Use:     "jobs [ID]",
		Short:   "List report jobs and how far they are, or show one",
		Example: "  countinghouse report jobs\n  countinghouse report jobs --state failed -o json",
		Args:    arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := t.format()
			if err != nil {
				return err
			}
			c, err := t.reader()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				j, err := getJob(cmd.Context(), c, args[0])
				if err != nil {
					return err
				}
				return t.showJob(f, j)
			}
			query := url.Values{}
			for name, value := range map[string]string{"state": state, "schedule": schedule} {
				if value != "" {
					query.Set(name, value)
				}
			}
			rows, err := listJobs(cmd.Context(), c, query)
			if err != nil {
				return err
			}
			return rows.Print(t.out, f)
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "only jobs in this state: queued, running, done, failed, cancelled or refused")
	cmd.Flags().StringVar(&schedule, "schedule", "", "only runs of this schedule")
	return t.listingFlag(t.clientFlags(cmd))
}

// listJobs are the jobs of every page.
func listJobs(ctx context.Context, c *client.Client, query url.Values) (*listing.Rows, error) {
	rows := jobRows()
	for {
		var page struct {
			Rows []reportJob `json:"rows"`
			Next string      `json:"next"`
		}
		if err := c.Get(ctx, "/report-jobs", query, &page); err != nil {
			return nil, err
		}
		for i := range page.Rows {
			page.Rows[i].add(rows)
		}
		if page.Next == "" {
			return rows, nil
		}
		query.Set("cursor", page.Next)
	}
}

// jobChange is a command that changes one job and shows it; the API calls the change by the same word.
func (t *tool) jobChange(use, short, long string) *cobra.Command {
	cmd := &cobra.Command{
		Use: use + " ID", Short: short, Long: long, Example: "  countinghouse report " + use + " 01a2039d-9cae-7dc0-921a-de8cb52129a6", Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := t.format()
			if err != nil {
				return err
			}
			c, err := t.reader()
			if err != nil {
				return err
			}
			j, err := postJob(cmd.Context(), c, "/report-jobs/"+url.PathEscape(args[0])+"/"+use, nil)
			if err != nil {
				return err
			}
			return t.showJob(f, j)
		},
	}
	return t.listingFlag(t.clientFlags(cmd))
}

func (t *tool) reportCancel() *cobra.Command {
	return t.jobChange("cancel", "Cancel a job that has not ended", "Cancels a job that has not ended. After the end what it made stays.")
}

func (t *tool) reportRegenerate() *cobra.Command {
	return t.jobChange("regenerate", "Make a file again that was removed, to the same bytes",
		"Makes the file of a job again that was kept long enough and removed, to the same bytes. A job that failed or was cancelled is\ntried anew.")
}

func (t *tool) reportFetch() *cobra.Command {
	var out string
	var manifest bool
	cmd := &cobra.Command{
		Use:   "fetch ID",
		Short: "Write the file of a job: whole or not at all",
		Example: `  countinghouse report fetch 01a2039d-9cae-7dc0-921a-de8cb52129a6 --out .
  countinghouse report fetch 01a2039d-9cae-7dc0-921a-de8cb52129a6 --manifest`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := t.reader()
			if err != nil {
				return err
			}
			if manifest {
				var m json.RawMessage
				if err := c.Get(cmd.Context(), "/report-jobs/"+url.PathEscape(args[0])+"/manifest", nil, &m); err != nil {
					return err
				}
				return listing.Document(t.out, m)
			}
			j, err := getJob(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			return t.fetchJob(cmd.Context(), c, j, out)
		},
	}
	cmd.Flags().StringVar(&out, "out", ".", "write to this `file`, or in this folder under the suggested name; - is stdout")
	cmd.Flags().BoolVar(&manifest, "manifest", false, "print what is in the file instead: rows, sums, SHA-256, the state of the log")
	return t.clientFlags(cmd)
}
