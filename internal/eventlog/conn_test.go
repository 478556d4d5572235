package eventlog_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/localstack"
)

// authority signs certificates for servers and clients of one generation.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t: t, cert: cert, key: key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue writes ca.pem, cert.pem and key.pem into dir.
func (a *authority) issue(dir string) {
	a.t.Helper()
	key := newKey(a.t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem":   {Type: "CERTIFICATE", Bytes: a.cert.Raw},
		"cert.pem": {Type: "CERTIFICATE", Bytes: der},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

// Authority, server certificate, client certificate and its key are all replaced; the connection that was
// made with the old ones goes on with the new ones.
func TestCertificateRotation(t *testing.T) {
	t.Parallel()
	servers, clients := t.TempDir(), t.TempDir()
	newAuthority(t, "first").issueBoth(servers, clients)
	n := startNATS(t, localstack.NATSConfig{Configure: func(o *server.Options) {
		o.TLS, o.TLSVerify, o.TLSTimeout = true, true, 5
		o.TLSConfig = serverTLS(t, servers)
	}})
	cfg := config(n.URL(), 1)
	cfg.TLSCA, cfg.TLSCert, cfg.TLSKey = filepath.Join(clients, "ca.pem"), filepath.Join(clients, "cert.pem"), filepath.Join(clients, "key.pem")
	l := dial(t, cfg, false)
	waitFor(t, "the first connection", l.Conn().Connected)
	if err := ensure(t, l); err != nil {
		t.Fatal(err)
	}
	appendText(t, l, "acme", "with the first certificates")

	newAuthority(t, "second").issueBoth(servers, clients)
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	appendText(t, l, "acme", "with the second certificates")
	wantMessage(t, read(t, l, 0, 1), 1, "with the first certificates")

	stale := t.TempDir()
	newAuthority(t, "third").issueBoth(t.TempDir(), stale)
	cfg.TLSCA, cfg.TLSCert, cfg.TLSKey = filepath.Join(clients, "ca.pem"), filepath.Join(stale, "cert.pem"), filepath.Join(stale, "key.pem")
	refused := dial(t, cfg, false)
	if _, err := refused.Info(t.Context(), 0); err == nil {
		t.Error("a certificate of a foreign authority was let in")
	}
}

func (a *authority) issueBoth(servers, clients string) {
	a.issue(servers)
	a.issue(clients)
}

func serverTLS(t *testing.T, dir string) *tls.Config {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Error(err)
		return nil
	}
	text, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Error(err)
		return nil
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
}

// A password that is changed on the server while the client has the old one does not end the connection
// for good.
func TestWrongPasswordKeepsTrying(t *testing.T) {
	t.Parallel()
	password := "old"
	n := startNATS(t, localstack.NATSConfig{Configure: func(o *server.Options) { o.Username, o.Password = "house", password }})
	cfg := config(n.URL(), 1)
	cfg.User, cfg.Password = "house", "new"
	early := dial(t, cfg, false)
	if early.Conn().Connected() {
		t.Fatal("a wrong password was let in")
	}
	password = "new"
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the connection after the server changed its mind", early.Conn().Connected)
	if err := ensure(t, early); err != nil {
		t.Error(err)
	}
}

func TestDialRefuses(t *testing.T) {
	t.Parallel()
	bad := config("nats://127.0.0.1:1", 1)
	bad.Replicas = 2
	if _, err := eventlog.Dial(bad, logger(t)); err == nil {
		t.Error("two replicas were accepted")
	}
	if _, err := eventlog.Dial(config("http://%zz", 1), logger(t)); err == nil {
		t.Error("a URL that is none was accepted")
	}
}
