package web

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/report"
)

const (
	lettersDays   = 7               // how far back the first page looks for dead letters
	lateAfter     = 2 * time.Minute // an event that waits longer is worth a look
	lateAfterBad  = 15 * time.Minute
	cautionsWait  = 1500 * time.Millisecond // what is not known by then is said to be unknown
	provisionalOK = 5                       // days after its end in which a month may well be provisional
)

// cautions is what needs attention, the worst first, and one line if nothing does. months asks for the months, once for
// all of the page.
func (s *Site) cautions(v *visit, months func() ([]report.MonthInfo, error)) []caution {
	ctx, cancel := context.WithTimeout(v.Context(), cautionsWait)
	defer cancel()
	questions := []struct {
		entity access.Entity
		ask    func(ctx context.Context, v *visit) ([]caution, error)
	}{
		{access.DataHealth, s.ledgerCaution}, {access.DataHealth, s.auditCaution}, {access.DataHealth, s.lagCaution}, {access.DeadLetters, s.lettersCaution},
		{access.Months, func(_ context.Context, v *visit) ([]caution, error) { return monthsCaution(v, months) }}, {access.Archive, s.jobsCaution},
	}
	found := make([][]caution, len(questions))
	asked, failed := 0, make([]bool, len(questions))
	var asking sync.WaitGroup
	for i, q := range questions {
		if !v.viewer.ReachesAll(q.entity, access.View) {
			continue
		}
		asked++
		asking.Go(func() {
			var err error
			found[i], err = q.ask(ctx, v)
			failed[i] = err != nil
		})
	}
	asking.Wait()
	var all []caution
	unknown := false
	for _, tone := range []string{"bad", "warn"} {
		for i := range found {
			for _, c := range found[i] {
				if c.tone == tone {
					all = append(all, c)
				}
			}
			unknown = unknown || failed[i]
		}
	}
	switch {
	case unknown:
		all = append(all, caution{tone: "warn", title: "Not everything is known.", text: "The warehouse does not answer, or not in time."})
	case len(all) == 0 && asked > 0:
		all = []caution{{title: "Nothing.", text: "Log and ledger agree, no events wait, and no dead letters are new."}}
	}
	return all
}

func (s *Site) ledgerCaution(ctx context.Context, v *visit) ([]caution, error) {
	rows, err := s.Reports.Ledger(ctx, v.viewer.Tenant)
	var all []caution
	for _, r := range rows {
		if !r.Balanced {
			all = append(all, caution{"bad", "The ledger of " + monthTitle(r.Month) + " does not balance.",
				"Accepted events are neither stored nor accounted for.", "/health", "See the ledger"})
		}
	}
	return all, err
}

func (s *Site) lagCaution(ctx context.Context, v *visit) ([]caution, error) {
	shards, err := s.Reports.Freshness(ctx)
	waiting, oldest := pending(shards)
	if err != nil || oldest == 0 {
		return nil, err
	}
	late := v.now.Sub(time.UnixMilli(int64(oldest)))
	if late < lateAfter {
		return nil, nil
	}
	tone := "warn"
	if late > lateAfterBad {
		tone = "bad"
	}
	return []caution{{tone, plural(int64(waiting), "event") + " wait to be counted.", "The oldest came " + ago(late) + ".", "/health", "See data health"}}, nil
}

func (s *Site) lettersCaution(ctx context.Context, v *visit) ([]caution, error) {
	letters, err := s.Reports.DeadLetterReasons(ctx, v.viewer.Tenant, v.now.AddDate(0, 0, -lettersDays).UnixMilli())
	if err != nil || len(letters) == 0 {
		return nil, err
	}
	n, reasons := int64(0), []string{}
	for _, l := range letters {
		n += int64(l.N)
		if len(reasons) < 3 {
			reasons = append(reasons, l.Reason)
		}
	}
	return []caution{{"warn", plural(n, "dead letter") + " in the last seven days:", strings.Join(reasons, ", ") + ".", "/dead-letters", "Look at them"}}, nil
}

func monthsCaution(v *visit, ask func() ([]report.MonthInfo, error)) ([]caution, error) {
	months, err := ask()
	var all []caution
	for _, m := range months {
		end, parseErr := time.Parse("2006-01", m.Month)
		if parseErr != nil || m.State != report.StateProvisional || v.now.Sub(end.AddDate(0, 1, provisionalOK)) < 0 || m.Events == 0 {
			continue
		}
		all = append(all, caution{"warn", monthTitle(m.Month) + " is over and not closed.", "It is " + plural(int64(v.now.Sub(end.AddDate(0, 1, 0)).Hours())/24, "day") + " past its end.", "/months/" + m.Month, "See what blocks it"})
	}
	if len(all) > 3 {
		all = append(all[:2], caution{"warn", plural(len(all)-2, "more month") + " are over and not closed.", "", "/months", "All months"})
	}
	return all, err
}

// jobsCaution names reports and mails of the last days that came to nothing.
func (s *Site) jobsCaution(ctx context.Context, v *visit) ([]caution, error) {
	if s.Jobs == nil {
		return nil, nil
	}
	jobs, err := s.Jobs.List(ctx, v.viewer.Tenant)
	failed, refused, unsent, since := 0, 0, 0, v.now.AddDate(0, 0, -lettersDays)
	for i := range jobs {
		if jobs[i].CreatedAt.Before(since) {
			continue
		}
		switch jobs[i].State {
		case control.JobFailed:
			failed++
		case control.JobRefused:
			refused++
		}
		for _, m := range jobs[i].Mails {
			if m.State == control.MailFailed {
				unsent++
			}
		}
	}
	var all []caution
	if failed > 0 {
		all = append(all, caution{"warn", plural(failed, "report") + " of the last seven days failed.", "", "/archive?state=failed", "See why"})
	}
	if refused > 0 {
		all = append(all, caution{"warn", plural(refused, "report") + " of the last seven days could not be made: the owner may not have it any more.", "", "/archive?state=refused", "See why"})
	}
	if unsent > 0 {
		all = append(all, caution{"warn", plural(unsent, "mail") + " of the last seven days could not be sent.", "", "/archive", "See which"})
	}
	return all, err
}

// auditCaution repeats what the last audit that was asked for on these pages found.
func (s *Site) auditCaution(_ context.Context, v *visit) ([]caution, error) {
	s.audits.mu.Lock()
	defer s.audits.mu.Unlock()
	last, ok := s.audits.last[v.viewer.Tenant]
	if !ok || last.err != nil || last.certificate.OK {
		return nil, nil
	}
	return []caution{{"bad", "The last audit found " + plural(int64(last.certificate.DifferenceCount), "difference") + ".", "", "/health#audit", "See them"}}, nil
}
