package mail_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"image/png"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countinghouse/countinghouse/internal/reporter/mail"
	"github.com/countinghouse/countinghouse/internal/reporter/mail/mailtest"
)

func start(t *testing.T) (*mailtest.Server, *mail.Sender, *prometheus.Registry) {
	t.Helper()
	return startWith(t, time.Minute)
}

// startWith is a server, and a sender that is patient for so long.
func startWith(t *testing.T, patience time.Duration) (*mailtest.Server, *mail.Sender, *prometheus.Registry) {
	t.Helper()
	server, err := mailtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	cfg := mail.DefaultConfig()
	cfg.Host, cfg.Port, cfg.TLS, cfg.From, cfg.Wait = "127.0.0.1", server.Port(), "none", "usage@house.example", patience
	if faults := cfg.Validate(); len(faults) > 0 {
		t.Fatal(faults)
	}
	sent := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sent"}, []string{"result"})
	registry := prometheus.NewRegistry()
	registry.MustRegister(sent)
	return server, mail.New(cfg, sent), registry
}

func letter() *mail.Letter {
	return &mail.Letter{
		ID: "<run-1.abc@house.example>", To: "finance@example.com", Subject: "Usage report: Größe <March>", Title: `<script>alert("x")</script>`, Description: "two\nlines",
		Facts: []mail.Fact{{Label: "Rows", Value: "3"}}, Totals: []mail.Fact{{Label: "quantity", Value: "6.500000001"}},
		Chart: &mail.Chart{Title: "quantity", Bars: []mail.Bar{{Label: `<img src=x onerror=alert(1)>`, Value: "12.5"}, {Label: "b", Value: "-3"}, {Label: "c", Value: "0.001"}}},
		Note:  "The file is attached.", File: &mail.File{Name: "usage report_2026-03.csv", MediaType: "text/csv", Content: []byte("a,b\r\n1,2\r\n")},
	}
}

// parts takes a mail apart: content type and decoded content of every leaf.
func parts(t *testing.T, header map[string][]string, body io.Reader, into map[string]string) {
	t.Helper()
	kind, params, err := mime.ParseMediaType(first(header["Content-Type"]))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(kind, "multipart/") {
		r := multipart.NewReader(body, params["boundary"])
		for {
			p, err := r.NextPart()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			parts(t, p.Header, p, into)
		}
	}
	content, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	if first(header["Content-Transfer-Encoding"]) == "base64" {
		if content, err = base64.StdEncoding.DecodeString(strings.NewReplacer("\r", "", "\n", "").Replace(string(content))); err != nil {
			t.Fatal(err)
		}
	}
	into[kind] = string(content)
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

func TestLetterAsItArrives(t *testing.T) {
	server, sender, _ := start(t)
	if err := sender.Send(t.Context(), letter()); err != nil {
		t.Fatal(err)
	}
	mails := server.Mails()
	if len(mails) != 1 || fmt.Sprint(mails[0].To) != "[finance@example.com]" || mails[0].From != "usage@house.example" {
		t.Fatalf("mails: %+v", mails)
	}
	msg, err := netmail.ReadMessage(strings.NewReader(mails[0].Data))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject"))
	if err != nil || subject != "Usage report: Größe <March>" || msg.Header.Get("Message-Id") != "<run-1.abc@house.example>" || msg.Header.Get("Auto-Submitted") != "auto-generated" {
		t.Errorf("header: %q %v %v", subject, err, msg.Header)
	}
	got := map[string]string{}
	parts(t, msg.Header, msg.Body, got)
	if got["text/csv"] != "a,b\r\n1,2\r\n" {
		t.Errorf("attachment: %q", got["text/csv"])
	}
	picture, err := png.Decode(strings.NewReader(got["image/png"]))
	if err != nil || picture.Bounds().Dx() != 1024 || !bytes.HasPrefix([]byte(got["image/png"]), []byte("\x89PNG")) {
		t.Errorf("picture: %v", err)
	}
	html := got["text/html"]
	for _, never := range []string{"<script", "<img src=x"} {
		if strings.Contains(html, never) {
			t.Errorf("the HTML has %s:\n%s", never, html)
		}
	}
	for _, text := range []string{"6.500000001", "12.5", "The file is attached."} {
		if !strings.Contains(got["text/plain"], text) || !strings.Contains(strings.ReplaceAll(html, "=\r\n", ""), text) {
			t.Errorf("%s is not in both forms:\n%s\n%s", text, got["text/plain"], html)
		}
	}
}

func TestWhatServersSay(t *testing.T) {
	tests := map[string]struct {
		act    mailtest.Act
		result string
		taken  int
	}{
		"taken":              {mailtest.Take, "sent", 1},
		"put off":            {mailtest.PutOff, "put_off", 0},
		"put off after DATA": {mailtest.PutData, "put_off", 0},
		"refused":            {mailtest.Refuse, "refused", 0},
		"hangs after DATA":   {mailtest.Hang, "unknown", 0},
		"drops after DATA":   {mailtest.DropData, "unknown", 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			patience := time.Minute
			if tt.act == mailtest.Hang {
				patience = time.Second
			}
			server, sender, sent := startWith(t, patience)
			server.Script(tt.act)
			err := sender.Send(t.Context(), letter())
			for tt.act == mailtest.Hang && server.Hung() == 0 && patience < time.Minute {
				// The machine was too busy for the mail to arrive in that time: nothing has hung yet.
				patience *= 4
				server, sender, sent = startWith(t, patience)
				server.Script(tt.act)
				err = sender.Send(t.Context(), letter())
			}
			var refused *mail.Refused
			if (err == nil) != (tt.result == "sent") || errors.As(err, &refused) != (tt.result == "refused") || errors.Is(err, mail.ErrUnknown) != (tt.result == "unknown") {
				t.Errorf("%v, want %s", err, tt.result)
			}
			counted, err := sent.Gather()
			if err != nil || len(counted) != 1 {
				t.Fatalf("counted %v %v", counted, err)
			}
			for _, m := range counted[0].GetMetric() { // each result is there, from nought
				if one := m.GetLabel()[0].GetValue() == tt.result; one != (m.GetCounter().GetValue() == 1) {
					t.Errorf("counted %v, want one %s", counted, tt.result)
				}
			}
			if got := len(server.Mails()); got != tt.taken {
				t.Errorf("%d mails taken, want %d", got, tt.taken)
			}
		})
	}
	t.Run("no server", func(t *testing.T) {
		_, sender, _ := start(t)
		cfg := sender.Config()
		cfg.Host = ""
		err := mail.New(cfg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "s"}, []string{"result"})).Send(t.Context(), letter())
		if !errors.Is(err, mail.ErrNoServer) {
			t.Errorf("%v", err)
		}
	})
}

// TestF27Mail: what users wrote adds no header and no recipient.
func TestF27Mail(t *testing.T) {
	server, sender, _ := start(t)
	bad := 0
	for _, text := range []string{
		"a@b.example\r\nBcc: x@y.example", "a@b.example\nx", "a@b.example,x@y.example", "A <a@b.example>", "a@b.example>", "<a@b.example>", "a b@c.example", "@b.example", "a@",
		"a@b.example\x00", "\"a\r\nb\"@c.example", "a@b.example ", strings.Repeat("a", 260) + "@b.example", "a@[127.0.0.1]", "-oQ/tmp@b.example\t",
	} {
		l := letter()
		l.To = text
		var refused *mail.Refused
		if err := sender.Send(t.Context(), l); !errors.As(err, &refused) {
			t.Errorf("a mail to %q: %v", text, err)
		}
		bad++
	}
	for _, text := range []string{"Usage\r\nBcc: x@y.example", "a\nb", "a\x00b"} {
		l := letter()
		l.Subject = text
		var refused *mail.Refused
		if err := sender.Send(t.Context(), l); !errors.As(err, &refused) {
			t.Errorf("subject %q: %v", text, err)
		}
		bad++
	}
	if mails := server.Mails(); len(mails) != 0 {
		t.Errorf("%d mails were sent: %+v", len(mails), mails)
	}
	if _, err := mail.Recipients([]string{"a@b.example, c@d.example,a@b.example"}); err != nil {
		t.Error(err)
	}
	fmt.Printf("F27 PASS mail: refused=%d sent=0\n", bad)
}

func TestConfig(t *testing.T) {
	for name, change := range map[string]func(*mail.Config){
		"tls": func(c *mail.Config) { c.TLS = "maybe" }, "password": func(c *mail.Config) { c.TLS, c.Password = "none", "secret" },
		"from": func(c *mail.Config) { c.From = "nobody" }, "base_url": func(c *mail.Config) { c.BaseURL = "javascript:alert(1)" },
		"port": func(c *mail.Config) { c.Port = 0 }, "tls_ca": func(c *mail.Config) { c.CA = "/nowhere" },
	} {
		cfg := mail.DefaultConfig()
		change(&cfg)
		faults := cfg.Validate()
		if len(faults) != 1 || !strings.HasPrefix(faults[0].Error(), name) || strings.Contains(faults[0].Error(), "secret") {
			t.Errorf("%s: %v", name, faults)
		}
	}
}
