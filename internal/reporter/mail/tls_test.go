package mail_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countinghouse/countinghouse/internal/reporter/mail"
	"github.com/countinghouse/countinghouse/internal/reporter/mail/mailtest"
)

// TestTLSAndPassword: a server that encrypts and wants a password gets the mail from who has it. Nobody sends it in the
// clear, to a server that cannot prove who it is, or again and again with a password that is wrong.
func TestTLSAndPassword(t *testing.T) {
	dir := t.TempDir()
	certificate, err := mailtest.Certify(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mailtest.Certify(filepath.Join(dir, "other.pem")); err != nil {
		t.Fatal(err)
	}
	const right = "canary-mail-password"
	tests := map[string]struct {
		server   mailtest.Config
		tls      string
		password string
		ca       string
		taken    bool
		refused  bool   // for good
		text     string // in the error
	}{
		"STARTTLS":                         {server: mailtest.Config{Certificate: certificate}, tls: "starttls", password: right, ca: "ca.pem", taken: true},
		"TLS from the first byte":          {server: mailtest.Config{Certificate: certificate, Implicit: true}, tls: "tls", password: right, ca: "ca.pem", taken: true},
		"wrong password, STARTTLS":         {server: mailtest.Config{Certificate: certificate}, tls: "starttls", password: "canary-wrong", ca: "ca.pem", refused: true, text: "wrong user or password"},
		"wrong password, TLS":              {server: mailtest.Config{Certificate: certificate, Implicit: true}, tls: "tls", password: "canary-wrong", ca: "ca.pem", refused: true, text: "wrong user or password"},
		"certificate of nobody, STARTTLS":  {server: mailtest.Config{Certificate: certificate}, tls: "starttls", password: right, text: "certificate"},
		"certificate of another, STARTTLS": {server: mailtest.Config{Certificate: certificate}, tls: "starttls", password: right, ca: "other.pem", text: "certificate"},
		"certificate of another, TLS":      {server: mailtest.Config{Certificate: certificate, Implicit: true}, tls: "tls", password: right, ca: "other.pem", text: "certificate"},
		"no STARTTLS offered":              {server: mailtest.Config{}, tls: "starttls", password: right, ca: "ca.pem", text: "STARTTLS"},
		"no TLS behind the port":           {server: mailtest.Config{}, tls: "tls", password: right, ca: "ca.pem", text: "tls"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.server.User, tt.server.Password = "countinghouse", right
			server, err := mailtest.StartAs(tt.server)
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			cfg := mail.DefaultConfig()
			cfg.Host, cfg.Port, cfg.TLS, cfg.User, cfg.Password, cfg.Wait = "127.0.0.1", server.Port(), tt.tls, "countinghouse", tt.password, time.Minute
			if tt.ca != "" {
				cfg.CA = filepath.Join(dir, tt.ca)
			}
			if faults := cfg.Validate(); len(faults) > 0 {
				t.Fatal(faults)
			}
			err = mail.New(cfg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sent"}, []string{"result"})).Send(t.Context(), letter())
			var refused *mail.Refused
			if (err == nil) != tt.taken || errors.As(err, &refused) != tt.refused || errors.Is(err, mail.ErrUnknown) {
				t.Errorf("%v, want taken %t, refused %t", err, tt.taken, tt.refused)
			}
			if text := fmt.Sprint(err); !strings.Contains(text, tt.text) || strings.Contains(text, "canary") {
				t.Errorf("%s, want it to say %q and no password", text, tt.text)
			}
			if got := len(server.Mails()); got != map[bool]int{true: 1}[tt.taken] {
				t.Errorf("%d mails taken", got)
			}
		})
	}
}
