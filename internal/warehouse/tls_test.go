package warehouse_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// TestCertificatesRotate puts TLS in front of a real server and renews the authority while a Warehouse is
// open: the next connection is judged by the file as it is now, without a restart.
func TestCertificatesRotate(t *testing.T) {
	t.Parallel()
	server := localstack.SharedClickHouse(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	front := newFront(t, server.Addr())
	write := func(cert tls.Certificate) {
		if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, second := selfSigned(t), selfSigned(t)
	front.use(first)
	write(first)
	w, err := warehouse.Open(t.Context(), warehouse.Config{DSN: "clickhouse://" + front.addr + "/" + server.Database(t), TLSCA: ca}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	if err := w.Ping(t.Context()); err != nil {
		t.Fatalf("with the right authority: %v", err)
	}
	front.use(second)
	front.drop()
	for deadline := time.Now().Add(awaitMost); ; { // a connection that was kept may have to be found closed first
		err := w.Ping(t.Context())
		if err != nil && strings.Contains(err.Error(), "certificate") {
			break
		}
		if err == nil || time.Now().After(deadline) {
			t.Fatalf("with an authority that signed another server: %v, want a certificate error", err)
		}
	}
	write(second)
	if err := w.Ping(t.Context()); err != nil {
		t.Fatalf("after the authority was renewed: %v", err)
	}
}

// front is TLS before a server that speaks none.
type front struct {
	addr  string
	certs chan tls.Certificate
	conns chan net.Conn
}

func newFront(t *testing.T, backend string) *front {
	t.Helper()
	f := &front{certs: make(chan tls.Certificate, 1), conns: make(chan net.Conn, 64)}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert := <-f.certs
			f.certs <- cert
			return &cert, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	f.addr = l.Addr().String()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			f.conns <- in
			go f.pipe(t.Context(), in, backend)
		}
	}()
	return f
}

func (f *front) pipe(ctx context.Context, in net.Conn, backend string) {
	defer func() { _ = in.Close() }()
	out, err := (&net.Dialer{}).DialContext(ctx, "tcp", backend)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
	_, _ = io.Copy(in, out)
}

// use makes new connections see cert.
func (f *front) use(cert tls.Certificate) {
	select {
	case <-f.certs:
	default:
	}
	f.certs <- cert
}

// drop closes the connections that exist.
func (f *front) drop() {
	for {
		select {
		case c := <-f.conns:
			_ = c.Close()
		default:
			return
		}
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clickhouse"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
