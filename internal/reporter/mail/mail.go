// Package mail sends reports by mail.
//
// Guarantee: a mail that was sent again has the same Message-ID. What a server said decides what happens: a
// refusal for good (5xx) is *Refused, everything else is worth another try. Where it is not known whether the
// server took a mail, the error says so (ErrUnknown). Nothing a user wrote can add a header, a recipient or
// markup: lines are checked, addresses are bare, and HTML is escaped.
package mail

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"net/textproto"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	gomail "github.com/wneessen/go-mail"
)

// Config says how mail leaves the house. Without a host none does.
type Config struct {
	Host        string        `koanf:"host" help:"SMTP server; empty: no mail is sent, and what should be is shown as failed"`
	Port        int           `koanf:"port" help:"its port"`
	TLS         string        `koanf:"tls" help:"starttls: must be offered; tls: from the first byte, usually port 465; none: not at all, without a password"`
	CA          string        `koanf:"tls_ca" help:"file of certificate authorities to believe instead of the system's"`
	User        string        `koanf:"user" help:"user name, if the server wants one"`
	Password    string        `koanf:"password" secret:"true" help:"its password"`
	From        string        `koanf:"from" help:"address of the sender"`
	BaseURL     string        `koanf:"base_url" help:"where readers find the reporter, for links in mails: https://usage.example.com"`
	AttachBytes int64         `koanf:"attach_bytes" unit:"bytes" help:"largest file that is attached; larger ones are linked"`
	Wait        time.Duration `koanf:"wait" help:"longest time that sending one mail may take"`
	Tries       int           `koanf:"tries" help:"how often a mail is tried while the server puts it off, before it failed"`
	RetryFirst  time.Duration `koanf:"retry_first" help:"wait before the second try; doubled with each"`
	RetryMost   time.Duration `koanf:"retry_most" help:"longest wait before another try"`
}

// Ways of Config.TLS.
const (
	startTLS = "starttls"
	fullTLS  = "tls"
	noTLS    = "none"
)

// DefaultConfig sends nothing until it is told a host.
func DefaultConfig() Config {
	return Config{
		Port: 587, TLS: startTLS, From: "countinghouse@localhost", AttachBytes: 5 << 20, Wait: time.Minute,
		Tries: 12, RetryFirst: 10 * time.Second, RetryMost: 30 * time.Minute,
	}
}

// Validate names everything that cannot work.
func (c *Config) Validate() []error {
	var errs []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	want(c.TLS == startTLS || c.TLS == fullTLS || c.TLS == noTLS, "tls: want starttls, tls or none")
	want(c.Port > 0 && c.Port < 1<<16, "port: must be 1 to 65535")
	want(c.Password == "" || c.TLS != noTLS, "password: would be sent in the clear: want tls=starttls or tls=tls")
	want(c.AttachBytes >= 0, "attach_bytes: must not be negative")
	want(c.Wait > 0 && c.RetryFirst > 0 && c.RetryMost >= c.RetryFirst, "wait, retry_first, retry_most: must be positive, the first not longer than the longest")
	want(c.Tries > 0, "tries: must be positive")
	if _, err := address(c.From); err != nil {
		errs = append(errs, fmt.Errorf("from: %w", err))
	}
	if c.BaseURL != "" {
		u, err := url.Parse(c.BaseURL)
		want(err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.RawQuery == "", "base_url: want an address such as https://usage.example.com")
	}
	if c.CA != "" {
		if _, err := c.roots(); err != nil {
			errs = append(errs, fmt.Errorf("tls_ca: %w", err))
		}
	}
	return errs
}

func (c *Config) roots() (*x509.CertPool, error) {
	text, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("no certificate in %s", c.CA)
	}
	return pool, nil
}

// Why a mail was not sent. Errors that are none of these are worth another try.
var (
	// ErrNoServer: no mail server is configured.
	ErrNoServer = errors.New("no mail server is configured (reporter.mail.host)")
	// ErrUnknown: the connection ended when everything had been sent and the server had not answered yet.
	ErrUnknown = errors.New("the server may have taken the mail or not")
)

// Refused is a mail that the server does not take, now or later.
type Refused struct {
	Code int // of SMTP: 5xx
	Err  error
}

func (r *Refused) Error() string { return "refused for good: " + r.Err.Error() }

func (r *Refused) Unwrap() error { return r.Err }

// Sender sends mails. It is safe for concurrent use.
type Sender struct {
	cfg  Config
	sent *prometheus.CounterVec // by result
}

// New is a sender; sent counts what became of mails, from nought: an alert on what has never happened yet needs it.
func New(cfg Config, sent *prometheus.CounterVec) *Sender {
	for _, result := range []string{resultSent, resultPutOff, resultUnknown, resultRefused} {
		sent.WithLabelValues(result)
	}
	return &Sender{cfg, sent}
}

// Config is how it sends.
func (s *Sender) Config() Config { return s.cfg }

// Domain is what Message-IDs end in.
func (s *Sender) Domain() string {
	_, domain, _ := strings.Cut(s.cfg.From, "@")
	return domain
}

// Link is the address of a page below the base URL, "" where that is not configured.
func (s *Sender) Link(path string) string {
	if s.cfg.BaseURL == "" {
		return ""
	}
	return strings.TrimSuffix(s.cfg.BaseURL, "/") + path
}

// Results of email_send_total.
const (
	resultSent    = "sent"
	resultPutOff  = "put_off" // tried again
	resultUnknown = "unknown" // it may have been sent; tried again
	resultRefused = "refused"
)

// Send sends one letter to one recipient.
func (s *Sender) Send(ctx context.Context, l *Letter) error {
	if s.cfg.Host == "" {
		s.sent.WithLabelValues(resultRefused).Inc()
		return &Refused{Err: ErrNoServer}
	}
	msg, err := s.compose(l)
	if err != nil {
		s.sent.WithLabelValues(resultRefused).Inc()
		return &Refused{Err: err}
	}
	err = s.deliver(ctx, msg)
	result := resultSent
	var refused *Refused
	switch {
	case err == nil:
	case errors.As(err, &refused):
		result = resultRefused
	case errors.Is(err, ErrUnknown):
		result = resultUnknown
	default:
		result = resultPutOff
	}
	s.sent.WithLabelValues(result).Inc()
	return err
}

func (s *Sender) deliver(ctx context.Context, msg *gomail.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Wait)
	defer cancel()
	client, err := s.client(ctx)
	if err != nil {
		return fmt.Errorf("mail server %s: %w", s.cfg.Host, err)
	}
	err = client.DialAndSendWithContext(ctx, msg)
	if msg.IsDelivered() {
		return nil // whatever went wrong when saying goodbye
	}
	var fault *gomail.SendError
	if !errors.As(err, &fault) { // not even asked
		err = fmt.Errorf("mail server %s: %w", s.cfg.Host, err)
		var reply *textproto.Error
		if errors.As(err, &reply) && reply.Code >= 500 {
			return &Refused{Code: reply.Code, Err: err} // such as a wrong password, which trying again makes no better
		}
		return err
	}
	switch code := replyOf(err, fault); {
	case code >= 500:
		return &Refused{Code: code, Err: err}
	case code == 0 && fault.Reason == gomail.ErrSMTPDataClose:
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return err
}

// replyOf is what the server answered; 0 if it did not.
func replyOf(err error, fault *gomail.SendError) int {
	var reply *textproto.Error
	if errors.As(err, &reply) {
		return reply.Code
	}
	return fault.ErrorCode()
}

func (s *Sender) client(ctx context.Context) (*gomail.Client, error) {
	config := &tls.Config{ServerName: s.cfg.Host, MinVersion: tls.VersionTLS12}
	if s.cfg.CA != "" {
		roots, err := s.cfg.roots() // read each time: it may have been renewed
		if err != nil {
			return nil, err
		}
		config.RootCAs = roots
	}
	dialer := &net.Dialer{}
	options := []gomail.Option{
		gomail.WithPort(s.cfg.Port), gomail.WithTimeout(s.cfg.Wait), gomail.WithTLSConfig(config), gomail.WithoutNoop(),
		gomail.WithDialContextFunc(func(_ context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			context.AfterFunc(ctx, func() { _ = conn.Close() }) // a server that hangs is left when the time is over
			if s.cfg.TLS == fullTLS {
				return tls.Client(conn, config), nil
			}
			return conn, nil
		}),
	}
	switch s.cfg.TLS {
	case noTLS:
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	case startTLS:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	case fullTLS:
		options = append(options, gomail.WithSSL())
	}
	if s.cfg.User != "" {
		options = append(options, gomail.WithOpportunisticSMTPAuth(proofs()...), gomail.WithUsername(s.cfg.User), gomail.WithPassword(s.cfg.Password))
	}
	return gomail.NewClient(s.cfg.Host, options...)
}

// proofs are the ways to prove a password, the best first. The library's own choice leaves the last two out over a
// connection that was made for it, as it does not see that it is encrypted; Validate makes sure that it is.
func proofs() []gomail.SMTPAuthType {
	return []gomail.SMTPAuthType{
		gomail.SMTPAuthSCRAMSHA256PLUS, gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthSCRAMSHA1PLUS, gomail.SMTPAuthSCRAMSHA1, gomail.SMTPAuthCramMD5,
		gomail.SMTPAuthPlain, gomail.SMTPAuthLogin,
	}
}

// Recipients takes a list of addresses apart, each element of which may be several separated by commas.
// Every one is bare: name@example.com. One that stands twice is there once.
func Recipients(list []string) ([]string, error) {
	all := []string{}
	seen := map[string]bool{}
	for _, some := range list {
		for one := range strings.SplitSeq(some, ",") {
			bare, err := address(strings.Trim(one, " "))
			if err != nil {
				return nil, err
			}
			if !seen[bare] {
				seen[bare] = true
				all = append(all, bare)
			}
		}
	}
	return all, nil
}

const addressMax = 254 // bytes, RFC 5321

// address reads a bare address.
func address(text string) (string, error) {
	parsed, err := netmail.ParseAddress(text)
	printable := !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>"(),;:\[]`, r) })
	if err != nil || !printable || len(text) > addressMax || parsed.Address != text || parsed.Name != "" {
		return "", fmt.Errorf("%.80q is no address such as finance@example.com", text)
	}
	return text, nil
}

// compose makes the message.
func (s *Sender) compose(l *Letter) (*gomail.Msg, error) {
	text, html, picture, err := l.render()
	if err != nil {
		return nil, err
	}
	msg := gomail.NewMsg()
	to, err := address(l.To)
	if err != nil {
		return nil, err
	}
	if strings.ContainsFunc(l.Subject+l.ID, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, errors.New("a subject or Message-ID with control characters")
	}
	if err := errors.Join(msg.From(s.cfg.From), msg.To(to)); err != nil {
		return nil, err
	}
	msg.Subject(l.Subject)
	msg.SetMessageIDWithValue(strings.Trim(l.ID, "<>"))
	msg.SetDate()
	msg.SetUserAgent("countinghouse")
	msg.SetGenHeader(gomail.Header("Auto-Submitted"), "auto-generated") // RFC 3834: out-of-office programs stay silent
	msg.SetBodyString(gomail.TypeTextPlain, text)
	msg.AddAlternativeString(gomail.TypeTextHTML, html)
	if picture != nil {
		err = msg.EmbedReader(pictureName, bytes.NewReader(picture), gomail.WithFileContentID(pictureName), gomail.WithFileContentType("image/png"))
	}
	if l.File != nil {
		err = errors.Join(err, msg.AttachReader(l.File.Name, bytes.NewReader(l.File.Content), gomail.WithFileContentType(gomail.ContentType(l.File.MediaType))))
	}
	return msg, err
}
