package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/reporter/guard"
	"github.com/countinghouse/countinghouse/internal/reporter/mail"
)

// mailTries is the highest number of tries of a mail that is still to be sent.
func mailTries(j *control.Job) int {
	tries := 0
	for _, m := range j.Mails {
		if m.State == control.MailWaiting || m.State == control.MailSending {
			tries = max(tries, m.Tries)
		}
	}
	return tries
}

// post sends the mails of a job that are still to be sent, each once this turn.
func (d *Desk) post(ctx context.Context, j control.Job) {
	letter, err := d.allowed(ctx, &j)
	if err != nil {
		if ctx.Err() != nil {
			return // the reporter stops, or the job is another's: it was no try
		}
		// Without the file there is nothing to send: put off like a mail that the server did not take.
		d.log.Warn("mail not written", zap.String("job", j.ID), zap.Error(err))
		d.undone(ctx, &j, err)
		return
	}
	for i := range j.Mails {
		if s := j.Mails[i].State; s != control.MailWaiting && s != control.MailSending {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		if !d.postOne(ctx, &j, i, letter) {
			return // the job is another's now
		}
	}
	if !j.Unsent() {
		j.Runner = ""
		d.settle(context.WithoutCancel(ctx), j, "mailed")
	}
}

// postOne sends one mail: noted before, noted after. false: the job is no longer this reporter's.
func (d *Desk) postOne(ctx context.Context, j *control.Job, i int, letter *mail.Letter) bool {
	m := &j.Mails[i]
	m.Repeated = m.Repeated || m.State == control.MailSending
	m.State, m.Tries, m.At = control.MailSending, m.Tries+1, d.now()
	if !d.note(ctx, j, "mail begun") {
		return false
	}
	faultpoint.Hit("jobs/mail-noted")
	m = &j.Mails[i]
	letter.ID, letter.To, letter.Repeated = m.MessageID, m.Recipient, m.Repeated
	err := d.parts.Mail.Send(ctx, letter)
	faultpoint.Hit("jobs/mail-sent")
	var refused *mail.Refused
	change := "mail sent"
	m.At = d.now()
	switch {
	case err == nil:
		m.State, m.Error = control.MailSent, ""
	case errors.As(err, &refused):
		change, m.State, m.Error = "mail failed", control.MailFailed, err.Error()
	case ctx.Err() != nil && !errors.Is(err, mail.ErrUnknown): // the reporter stops: it was no try
		change, m.State, m.Tries = "mail put off", control.MailWaiting, m.Tries-1
	case m.Tries >= d.parts.Mail.Config().Tries:
		change, m.State, m.Error = "mail failed", control.MailFailed, fmt.Sprintf("given up after %d tries: %v", m.Tries, err)
	default:
		change, m.State, m.Error = "mail put off", control.MailWaiting, err.Error()
		m.Repeated = m.Repeated || errors.Is(err, mail.ErrUnknown)
	}
	if err != nil {
		d.log.Warn("mail not sent", zap.String("job", j.ID), zap.String("state", string(m.State)), zap.Int("tries", m.Tries), zap.Error(err))
	}
	return d.note(context.WithoutCancel(ctx), j, change)
}

// note writes the state of mails; false where the job is no longer this reporter's.
func (d *Desk) note(ctx context.Context, j *control.Job, change string) bool {
	written := d.settle(ctx, *j, change)
	if written == nil {
		return false
	}
	*j = *written
	return true
}

// allowed is the letter of a job whose owner may still have it.
func (d *Desk) allowed(ctx context.Context, j *control.Job) (*mail.Letter, error) {
	if err := d.judge(ctx, j); err != nil {
		return nil, err
	}
	return d.letter(ctx, j)
}

// undone notes that no mail of the job could be tried.
func (d *Desk) undone(ctx context.Context, j *control.Job, err error) {
	for i := range j.Mails {
		m := &j.Mails[i]
		if m.State != control.MailWaiting && m.State != control.MailSending {
			continue
		}
		m.Repeated = m.Repeated || m.State == control.MailSending
		m.State, m.Tries, m.At, m.Error = control.MailWaiting, m.Tries+1, d.now(), "the file could not be read: "+reason(err)
		var bad *report.Error
		var refused *guard.Refused
		if errors.As(err, &refused) {
			m.State, m.Error = control.MailFailed, "not sent: "+refused.Reason
		} else if m.Tries >= d.parts.Mail.Config().Tries || errors.As(err, &bad) {
			m.State = control.MailFailed
		}
	}
	if !j.Unsent() {
		j.Runner = ""
	}
	d.settle(context.WithoutCancel(ctx), *j, "mail put off")
}

// letter is what the recipients of a job get, but for whom it is to. The file is read to its end and compared
// with its SHA-256 before any of it is sent.
func (d *Desk) letter(ctx context.Context, j *control.Job) (*mail.Letter, error) {
	if err := fileOf(j); err != nil {
		return nil, err
	}
	m, err := d.manifest(ctx, j)
	if err != nil {
		return nil, err
	}
	l := &mail.Letter{
		Subject: "Usage report: " + j.Name, Title: j.Name, Description: j.Description, Chart: m.Chart, Link: d.parts.Mail.Link("/archive/" + j.ID),
		Facts: []mail.Fact{{Label: "Report", Value: j.Report}},
	}
	if period := periodOf(m.Parameters); period != "" {
		l.Subject += ", " + period
		l.Facts = append(l.Facts, mail.Fact{Label: "Period", Value: period})
	}
	state := m.MonthState
	if m.Version > 0 {
		state += ", version " + strconv.Itoa(m.Version)
	}
	for _, f := range []mail.Fact{
		{Label: "Rows", Value: strconv.FormatInt(m.Rows, 10)}, {Label: "State of the month", Value: state},
		{Label: "As of", Value: m.AsOf.UTC().Format("2006-01-02T15:04:05.000Z")}, {Label: "File", Value: m.File}, {Label: "SHA-256", Value: m.SHA256},
	} {
		if f.Value != "" {
			l.Facts = append(l.Facts, f)
		}
	}
	for _, t := range m.Totals {
		l.Totals = append(l.Totals, mail.Fact{Label: t.Column, Value: t.Sum})
	}
	if j.File.Bytes > d.parts.Mail.Config().AttachBytes {
		l.Note = fmt.Sprintf("The file has %d bytes, which is more than is attached to a mail. It is kept until %s.", j.File.Bytes, Job{Job: *j}.KeptUntil().Format("2006-01-02"))
		return l, nil
	}
	content, err := d.content(ctx, j)
	if err != nil {
		return nil, err
	}
	l.Note = "The file is attached. Its manifest, with the sums above, is kept with it."
	l.File = &mail.File{Name: m.File, MediaType: sheet.Format(j.Format).MediaType(), Content: content}
	return l, nil
}

// content reads a whole file, and fails if it is not the one that was stored.
func (d *Desk) content(ctx context.Context, j *control.Job) ([]byte, error) {
	r, err := d.files.Open(ctx, j.File.Object)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read file %s: %w", j.File.Object, err)
	}
	if int64(len(content)) != j.File.Bytes {
		return nil, fmt.Errorf("file %s has %d bytes of %d", j.File.Object, len(content), j.File.Bytes)
	}
	return content, nil
}

// periodOf is the period that a question is about, as people write it.
func periodOf(parameters map[string]string) string {
	for _, name := range []string{"month", "processing_month"} {
		if m := parameters[name]; m != "" {
			return m
		}
	}
	from, to := parameters["from"], parameters["to"]
	switch {
	case from == "":
		return to
	case to == "", from == to:
		return from
	}
	return from + " to " + to
}
