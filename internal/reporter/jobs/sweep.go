package jobs

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
)

// sweep removes, from time to time, files that were kept long enough and what dead reporters left behind.
func (d *Desk) sweep(ctx context.Context) {
	tick := time.NewTicker(d.cfg.SweepEvery)
	defer tick.Stop()
	s := &sweeping{Desk: d, loose: map[string]loose{}, unnamed: map[string]bool{}}
	for {
		if err := s.once(ctx); err != nil && ctx.Err() == nil {
			d.log.Debug("files not swept", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sweeping remembers what the sweep before saw: what nobody owns may be about to be owned, so it goes only
// when it was there the last time and did not grow. Pieces do not say whose they are: while a job is being made they
// may be of its file, so they lie for as long as a job may take.
type sweeping struct {
	*Desk
	loose   map[string]loose
	unnamed map[string]bool
}

// loose are pieces that belong to no file: how many, and since when there are not more of them.
type loose struct {
	n     uint64
	since time.Time
}

func (s *sweeping) once(ctx context.Context) error {
	all, err := s.jobs.All(ctx, "")
	if err != nil {
		return err
	}
	for i := range all {
		if err := s.expire(ctx, &all[i]); err != nil {
			return err
		}
	}
	files, err := s.files.List(ctx)
	if err != nil {
		return err
	}
	if err := s.strays(ctx, all, files); err != nil {
		return err
	}
	making := slices.ContainsFunc(all, func(j control.Job) bool { return j.State == control.JobRunning })
	return s.pieces(ctx, files, making)
}

// expire removes the file of a job that was kept long enough. The job says so first: a file that is named is
// there. The manifest stays.
func (s *sweeping) expire(ctx context.Context, j *control.Job) error {
	until := Job{Job: *j}.KeptUntil()
	if !j.State.Ended() || j.Unsent() || until.IsZero() || s.now().Before(until) {
		return nil
	}
	object := j.File.Object
	j.File.Object, j.File.GoneAt = "", s.now()
	written, err := s.parts.Control.ChangeJob(ctx, *j, "file removed", s.parts.Holder, s.now())
	if errors.Is(err, control.ErrConflict) {
		return nil // next time
	}
	if err != nil {
		return err
	}
	s.jobs.Put(written)
	return s.files.Remove(ctx, object)
}

// strays removes files that no job names.
func (s *sweeping) strays(ctx context.Context, all []control.Job, files []control.StoredFile) error {
	named, busy := map[string]bool{}, map[string]bool{}
	for i := range all {
		j := &all[i]
		if j.State == control.JobRunning {
			busy[key(j)] = true
		}
		if j.File != nil {
			named[j.File.Object], named[j.File.Manifest] = true, true
		}
	}
	seen := map[string]bool{}
	for _, f := range files {
		parts := strings.SplitN(f.Name, "/", 3)
		if named[f.Name] || len(parts) != 3 || busy[parts[0]+"/"+parts[1]] {
			continue
		}
		if !s.unnamed[f.Name] {
			seen[f.Name] = true
			continue
		}
		if err := s.files.Remove(ctx, f.Name); err != nil {
			return err
		}
		s.log.Info("removed a file that no job names", zap.String("file", f.Name))
	}
	s.unnamed = seen
	return nil
}

// pieces removes pieces of files that were never finished.
func (s *sweeping) pieces(ctx context.Context, files []control.StoredFile, making bool) error {
	found, err := s.files.Loose(ctx, files)
	if err != nil {
		return err
	}
	before := s.loose
	s.loose = map[string]loose{}
	for subject, n := range found {
		have, known := before[subject]
		if !known || have.n != n {
			have = loose{n, time.Now()}
			known = false
		}
		if !known || making && time.Since(have.since) < s.cfg.Time {
			s.loose[subject] = have
			continue
		}
		if err := s.files.Purge(ctx, subject); err != nil {
			return err
		}
		s.log.Info("removed pieces of a file that was never finished", zap.Uint64("pieces", n))
	}
	return nil
}
