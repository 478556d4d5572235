package stack

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/eventlog"
)

// connectWait is for a server that was just started on a machine with other work; a quiet one answers within a second.
const connectWait = time.Minute

// prepare makes what must be there before a service starts: the streams of the log and the admin key.
func (s *Stack) prepare(ctx context.Context) error {
	disk, err := diskBytes(s.path(PartNATS))
	if err != nil {
		return err
	}
	cfg := eventlog.DefaultConfig()
	cfg.URL, cfg.Name = s.natsURL(), "countinghouse-up"
	cfg.MaxBytes = disk / 10 * 8 / int64(cfg.Partitions) // 80 % of the disk: a full disk refuses, it drops nothing
	l, err := eventlog.Dial(cfg, s.log)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := s.retry(ctx, func(ctx context.Context) error { return l.EnsureStreams(ctx) }); err != nil {
		return err
	}
	store, err := control.Open(ctx, l.Conn(), s.log)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := s.ensureAdminKey(ctx, store); err != nil || !s.cfg.Operator {
		return err
	}
	return s.ensureOperator(ctx, store)
}

// ensureOperator makes the operator whose password is in DIR/secrets, unless it is there: what became of it since,
// another password included, is left as it is.
func (s *Stack) ensureOperator(ctx context.Context, store *control.Store) error {
	if s.secret.operator == "" {
		s.secret.operator = control.NewPassword()
		if err := writeAtomically(filepath.Join(s.path(secretsDir), operatorFile), []byte(s.secret.operator+"\n")); err != nil {
			return err
		}
	}
	people := store.People(ctx)
	defer people.Close()
	err := s.retry(ctx, func(ctx context.Context) error {
		_, err := people.CreateOperator(ctx, control.Actor{By: "countinghouse up"}, control.OperatorSpec{
			Tenant: DefaultTenant, Login: operatorLogin, Name: "Operator of the demo", Password: s.secret.operator, Grants: everyRole(),
		})
		return err
	})
	if err == nil {
		return nil
	}
	if !errors.Is(err, control.ErrTaken) {
		return fmt.Errorf("operator: %w", err)
	}
	err = s.retry(ctx, func(ctx context.Context) error {
		_, err := people.CheckPassword(ctx, operatorLogin, s.secret.operator)
		return err
	})
	if errors.Is(err, control.ErrSignIn) { // what is written down does not hold any more, and must not be shown as if it did
		s.secret.operatorStale, err = true, nil
	}
	return err
}

// everyRole: nobody but an account manager sees the Usage Report.
func everyRole() []access.Grant {
	return []access.Grant{{Role: access.SuperAdministrator}, {Role: access.AccountManager}}
}

// ensureAdminKey registers the key in DIR/secrets, which is made first: a crash in between is repeated
// with the same key.
func (s *Stack) ensureAdminKey(ctx context.Context, store *control.Store) error {
	path := filepath.Join(s.path(secretsDir), adminFile)
	for fresh := range 2 {
		if s.secret.admin == "" || fresh == 1 {
			s.secret.admin = control.NewToken()
			if err := writeAtomically(path, []byte(s.secret.admin+"\n")); err != nil {
				return err
			}
		}
		err := s.retry(ctx, func(ctx context.Context) error {
			_, err := store.CreateWithSecret(ctx, s.secret.admin, control.Spec{
				Tenant: DefaultTenant, Name: "admin key of countinghouse up", Scopes: control.Scopes(), By: "countinghouse up",
			})
			return err
		})
		if err == nil {
			return nil
		}
		// Revoked, of an earlier set of scopes, or no token at all: a new one takes its place.
		if !errors.Is(err, control.ErrConflict) && !errors.Is(err, control.ErrChecksum) {
			return fmt.Errorf("admin key: %w", err)
		}
		s.log.Warn("admin key replaced", zap.Error(err))
	}
	return errors.New("admin key: a new key was refused as well")
}

// retry repeats what NATS, just started, does not answer yet.
func (s *Stack) retry(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	for {
		err := do(ctx)
		if err == nil || !(errors.Is(err, control.ErrUnavailable) || errors.Is(err, eventlog.ErrUnavailable)) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func diskBytes(dir string) (int64, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("size of the disk of %s: %w", dir, err)
	}
	return int64(fs.Blocks) * fs.Bsize, nil
}
