package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/countinghouse/countinghouse/internal/client"
	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

// schedule is a schedule as the reporter shows it.
type schedule struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Report     string `json:"report"`
	When       string `json:"when"`
	Owner      string `json:"owner"`
	Enabled    bool   `json:"enabled"`
	NextAt     string `json:"next_at"`
	Recipients string `json:"recipients"`
	raw        json.RawMessage
}

func scheduleRows(all ...schedule) *listing.Rows {
	rows := &listing.Rows{Columns: []string{"id", "name", "report", "when", "enabled", "next_at", "recipients", "owner"}}
	for _, s := range all {
		rows.Add(s.ID, s.Name, s.Report, s.When, strconv.FormatBool(s.Enabled), s.NextAt, s.Recipients, s.Owner)
	}
	return rows
}

func (t *tool) schedule() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "schedule",
		Short: "Make reports again and again, and send them by mail",
		Long: `Makes reports again and again, and sends them by mail. A run is made with the rights that the schedule's owner, who saved it
last, has at that moment. What they may not have any more is refused: report jobs --state refused tells why. Whoever may
have the report saves the schedule to take it over.`,
		Example: `  countinghouse schedule create --name "Weekly usage" --report tenant-usage -p account=northwind \
    --every weekly --weekday monday --mail finance@example.com
  countinghouse schedule ls`,
	})
	cmd.AddCommand(t.scheduleLs(), t.scheduleCreate(), t.scheduleSwitch("enable", "Enable a schedule; runs begin with the next that becomes due"),
		t.scheduleSwitch("disable", "Disable a schedule; runs that become due meanwhile are not made up"), t.scheduleRm())
	return cmd
}

func (t *tool) scheduleLs() *cobra.Command {
	cmd := &cobra.Command{
		Use: "ls", Short: "List schedules, and when they run next", Example: "  countinghouse schedule ls", Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := t.format()
			if err != nil {
				return err
			}
			c, err := t.reader()
			if err != nil {
				return err
			}
			var page struct {
				Rows []schedule `json:"rows"`
			}
			if err := c.Get(cmd.Context(), "/schedules", nil, &page); err != nil {
				return err
			}
			return scheduleRows(page.Rows...).Print(t.out, f)
		},
	}
	return t.listingFlag(t.clientFlags(cmd))
}

func (t *tool) scheduleCreate() *cobra.Command {
	var params []string
	var disabled bool
	var body struct {
		Name        string            `json:"name"`
		Description string            `json:"description,omitempty"`
		Report      string            `json:"report,omitempty"`
		Parameters  map[string]string `json:"parameters,omitempty"`
		Format      string            `json:"format,omitempty"`
		Raw         bool              `json:"raw,omitempty"`
		KeepDays    int               `json:"keep_days,omitempty"`
		Recipients  string            `json:"recipients"`
		Recurrence  string            `json:"recurrence"`
		Weekday     string            `json:"weekday,omitempty"`
		MonthDay    int               `json:"month_day,omitempty"`
		At          string            `json:"at,omitempty"`
		Zone        string            `json:"zone,omitempty"`
		Enabled     bool              `json:"enabled"`
	}
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a schedule",
		Long: `Makes a schedule. A run covers days of UTC that are over: the day before, the seven days before the weekday, or the
month before. It begins at 01:00 UTC, or at a time of a zone; never before its day has begun in UTC.`,
		Example: `  countinghouse schedule create --name "Weekly usage" --report tenant-usage -p account=northwind \
    --every weekly --weekday monday --mail finance@example.com
  countinghouse schedule create --name "Month end" --report monthly-usage --every monthly --at 07:30 \
    --zone Europe/Berlin --mail finance@example.com,audit@example.com`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := t.format()
			if err != nil {
				return err
			}
			body.Enabled = !disabled
			if body.Parameters, err = parametersGiven(params); err != nil {
				return err
			}
			c, err := t.reader()
			if err != nil {
				return err
			}
			return t.changeSchedule(cmd, c, f, http.MethodPost, "/schedules", body)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&body.Name, "name", "", "for people; required")
	flags.StringVar(&body.Description, "description", "", "for people")
	flags.StringVar(&body.Report, "report", "", "`name` of the report (default tenant-usage)")
	flags.StringArrayVarP(&params, "param", "p", nil, "a parameter of the report as `name=value`, but for its period")
	flags.StringVar(&body.Format, "format", "", sheet.FormatNames()+" (default csv)")
	flags.BoolVar(&body.Raw, "raw", false, "CSV without the guard against formulas")
	flags.IntVar(&body.KeepDays, "keep-days", 0, "days that files are kept, 1 to 1826 (default 365)")
	flags.StringVar(&body.Recipients, "mail", "", "`addresses` that get each file, separated by commas; required")
	flags.StringVar(&body.Recurrence, "every", "", "daily, weekly or monthly; for elastic-usage also hourly; required")
	flags.StringVar(&body.Weekday, "weekday", "", "of weekly: monday, tuesday, …")
	flags.IntVar(&body.MonthDay, "month-day", 0, "of monthly: 1 to 31 (default 1); a month without that day has its last one")
	flags.StringVar(&body.At, "at", "", "time of day (default 01:00)")
	flags.StringVar(&body.Zone, "zone", "", "of the time zone database, such as Europe/Berlin (default UTC)")
	flags.BoolVar(&disabled, "disabled", false, "make it disabled")
	_ = cmd.RegisterFlagCompletionFunc("report", cobra.FixedCompletions(reportNames(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("every", cobra.FixedCompletions([]string{"daily", "weekly", "monthly", "hourly"}, cobra.ShellCompDirectiveNoFileComp))
	return t.listingFlag(t.clientFlags(cmd))
}

// changeSchedule makes a change and shows the schedule after it.
func (t *tool) changeSchedule(cmd *cobra.Command, c *client.Client, f listing.Format, method, path string, body any) error {
	var s schedule
	if err := c.Call(cmd.Context(), method, path, body, &s.raw); err != nil {
		return err
	}
	if f == listing.JSON {
		return listing.Document(t.out, s.raw)
	}
	if err := json.Unmarshal(s.raw, &s); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return scheduleRows(s).Print(t.out, f)
}

func (t *tool) scheduleSwitch(word, short string) *cobra.Command {
	cmd := &cobra.Command{
		Use: word + " ID", Short: short, Example: "  countinghouse schedule " + word + " 01a2039d-9cae-7dc0-921a-de8cb52129a6", Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := t.format()
			if err != nil {
				return err
			}
			c, err := t.reader()
			if err != nil {
				return err
			}
			return t.changeSchedule(cmd, c, f, http.MethodPost, "/schedules/"+url.PathEscape(args[0])+"/"+word, nil)
		},
	}
	return t.listingFlag(t.clientFlags(cmd))
}

func (t *tool) scheduleRm() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rm ID...", Short: "Delete schedules for ever; what they made stays", Example: "  countinghouse schedule rm 01a2039d-9cae-7dc0-921a-de8cb52129a6",
		Args: arguments(1, anyNumber),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := t.format(); err != nil {
				return err
			}
			c, err := t.reader()
			if err != nil {
				return err
			}
			rows := listing.Rows{Columns: []string{"id", "state"}}
			for _, id := range args {
				if err := c.Call(cmd.Context(), http.MethodDelete, "/schedules/"+url.PathEscape(id), nil, nil); err != nil {
					return fmt.Errorf("delete schedule %s: %w", id, err)
				}
				rows.Add(id, "deleted")
			}
			return t.print(&rows)
		},
	}
	return t.listingFlag(t.clientFlags(cmd))
}
