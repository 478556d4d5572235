// Package mailtest is a mail server for tests: a real SMTP server on loopback that keeps what it took, and does
// what it is told to the mails that come.
package mailtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"os"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Act is what the server does to a mail.
type Act int

// Acts.
const (
	Take     Act = iota
	PutOff       // 451 to RCPT
	PutData      // 452 after DATA
	Refuse       // 550 to RCPT
	Hang         // says nothing after DATA until the client leaves
	DropData     // takes it, and breaks the connection instead of saying so
)

// Mail is a mail that the server took, whether it said so or not.
type Mail struct {
	From string
	To   []string
	Data string
	Said bool // the client was told
}

// Config is how the server is reached.
type Config struct {
	Certificate *tls.Certificate // nil: no TLS at all
	Implicit    bool             // TLS from the first byte; otherwise STARTTLS is offered
	User        string           // mails are taken from nobody else; "": from everybody
	Password    string
}

// Certify makes a certificate for 127.0.0.1, and writes it, who signed it being itself, into a file.
func Certify(file string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	body := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail server of a test"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, body, body, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, os.WriteFile(file, text, 0o600)
}

// Server is a running mail server.
type Server struct {
	cfg    Config
	server *smtp.Server
	listen net.Listener
	served chan struct{}

	mu    sync.Mutex
	acts  []Act // for the next mails; then Take
	mails []Mail
	hung  int // mails that it said nothing to
	hangs chan struct{}
}

// Start listens on loopback, in the clear, for everybody.
func Start() (*Server, error) { return StartAs(Config{}) }

// StartAs listens on loopback.
func StartAs(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, served: make(chan struct{}), hangs: make(chan struct{})}
	s.server = smtp.NewServer(s)
	s.server.Domain, s.server.EnableSMTPUTF8, s.server.ErrorLog = "localhost", true, log.New(io.Discard, "", 0)
	var err error
	if s.listen, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	if cfg.Certificate != nil {
		secure := &tls.Config{Certificates: []tls.Certificate{*cfg.Certificate}, MinVersion: tls.VersionTLS12}
		if cfg.Implicit {
			s.listen = tls.NewListener(s.listen, secure)
		} else {
			s.server.TLSConfig = secure
		}
	}
	go func() {
		defer close(s.served)
		_ = s.server.Serve(s.listen) // that it was closed
	}()
	return s, nil
}

// Close ends the server.
func (s *Server) Close() {
	close(s.hangs)
	_ = s.server.Close()
	_ = s.listen.Close() // of a server that did not come to serve
	<-s.served
}

// Port is where it listens.
func (s *Server) Port() int { return s.listen.Addr().(*net.TCPAddr).Port }

// Script says what happens to the next mails, in order; those after them are taken.
func (s *Server) Script(acts ...Act) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acts = acts
}

// Mails are those that it took.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail{}, s.mails...)
}

// Hung is to how many mails it has said nothing. A client that is not patient enough for a busy machine leaves before it
// has sent its mail: such a one did not meet a server that hangs.
func (s *Server) Hung() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hung
}

func (s *Server) next() Act {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.acts) == 0 {
		return Take
	}
	act := s.acts[0]
	s.acts = s.acts[1:]
	return act
}

// NewSession is of smtp.Backend.
func (s *Server) NewSession(conn *smtp.Conn) (smtp.Session, error) {
	return &session{server: s, conn: conn}, nil
}

type session struct {
	server *Server
	conn   *smtp.Conn
	act    Act
	known  bool // proved to be the user
	from   string
	to     []string
}

// AuthMechanisms are those that the server offers.
func (s *session) AuthMechanisms() []string {
	if s.server.cfg.User == "" {
		return nil
	}
	return []string{sasl.Plain}
}

// Auth takes the user's password.
func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if s.known = user == s.server.cfg.User && password == s.server.cfg.Password; !s.known {
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "wrong user or password"}
		}
		return nil
	}), nil
}

// Mail begins a mail.
func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.server.cfg.User != "" && !s.known {
		return smtp.ErrAuthRequired
	}
	s.from, s.to, s.act = from, nil, s.server.next()
	return nil
}

// Rcpt names a recipient.
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	switch s.act {
	case PutOff:
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "try again later"}
	case Refuse:
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox"}
	}
	s.to = append(s.to, to)
	return nil
}

// Data takes the mail, or does what it was told to.
func (s *session) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.act == PutData {
		return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 3, 1}, Message: "no room"}
	}
	m := Mail{From: s.from, To: s.to, Data: string(data), Said: s.act == Take}
	s.server.mu.Lock()
	if s.act == Hang {
		s.server.hung++
	} else {
		s.server.mails = append(s.server.mails, m)
	}
	s.server.mu.Unlock()
	switch s.act {
	case Hang:
		<-s.server.hangs
		return errors.New("over")
	case DropData:
		return s.conn.Conn().Close()
	}
	return nil
}

// Reset forgets the mail that was begun.
func (s *session) Reset() {}

// Logout ends the session.
func (s *session) Logout() error { return nil }
