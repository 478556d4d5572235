package problem

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
)

// Codes of refusals that are made before there is a request.
const (
	CodeHeaders = "headers-too-large"
	CodeRequest = "bad-request"
)

// Wire are the refusals that net/http makes itself; Rewrite gives them our shape.
func Wire() Refusals {
	return Refusals{
		Kind(CodeHeaders, http.StatusRequestHeaderFieldsTooLarge, "the request line and headers are larger than the limit", "send smaller headers; the connection is closed"),
		Kind(CodeRequest, http.StatusBadRequest, "the bytes are no HTTP request", "speak HTTP/1.1 or HTTP/2; the connection is closed"),
	}
}

// plain is how net/http begins what it refuses before any handler is asked (conn.serve).
const (
	plainStatus  = "HTTP/1.1 "
	plainHeaders = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
	plainMax     = 512 // bytes of such a refusal
)

// Rewrite answers the problem to send in place of a refusal that net/http wrote itself, or nil for
// everything else. b is what one call of Write was given.
func Rewrite(b []byte) []byte {
	if len(b) > plainMax || !bytes.HasPrefix(b, []byte(plainStatus)) || len(b) < len(plainStatus)+3 {
		return nil
	}
	at := bytes.Index(b, []byte(plainHeaders))
	if at < 0 || at != bytes.IndexByte(b, '\r') {
		return nil
	}
	status, err := strconv.Atoi(string(b[len(plainStatus) : len(plainStatus)+3]))
	if err != nil {
		return nil
	}
	p := Wire().New(CodeRequest, string(b[at+len(plainHeaders):]))
	if status == http.StatusRequestHeaderFieldsTooLarge {
		p = Wire().New(CodeHeaders, "the request line and headers are larger than this server takes")
	}
	p.Status, p.Title = status, http.StatusText(status)
	body, err := json.Marshal(p)
	if err != nil { // strings and ints only: cannot happen
		return nil
	}
	return fmt.Appendf(nil, "%s%d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n",
		plainStatus, status, p.Title, ContentType, len(body)+1, body)
}

// Listener hands out connections on which such refusals are problems. Under TLS it does not help: what it
// would see is encrypted.
func Listener(l *net.TCPListener) net.Listener { return listener{l} }

type listener struct{ *net.TCPListener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return conn{c}, nil
}

type conn struct{ *net.TCPConn }

func (c conn) Write(b []byte) (int, error) {
	if refusal := Rewrite(b); refusal != nil {
		_, err := c.TCPConn.Write(refusal)
		return len(b), err
	}
	return c.TCPConn.Write(b)
}
