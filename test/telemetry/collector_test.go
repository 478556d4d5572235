package telemetry_test

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// span is one as the collector was sent it.
type span struct {
	service          string
	name             string
	trace            string
	id, parent       string
	links            []string // ids of spans
	failed           bool
	began, ended     uint64
	text             map[string]string
	rows, httpStatus int64
}

// spans is an OpenTelemetry collector that keeps what it gets.
type spans struct {
	url string

	mu  sync.Mutex
	all []span
}

func collect(t *testing.T) *spans {
	t.Helper()
	c := &spans{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var sent collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &sent)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("POST %s: %v", r.URL.Path, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.take(&sent)
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

func (c *spans) take(sent *collector.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range sent.GetResourceSpans() {
		service := ""
		for _, a := range of.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range of.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.all = append(c.all, read(service, s))
			}
		}
	}
}

func read(service string, s *trace.Span) span {
	out := span{
		service: service, name: s.GetName(), trace: hex.EncodeToString(s.GetTraceId()), id: hex.EncodeToString(s.GetSpanId()),
		parent: hex.EncodeToString(s.GetParentSpanId()), failed: s.GetStatus().GetCode() == trace.Status_STATUS_CODE_ERROR,
		began: s.GetStartTimeUnixNano(), ended: s.GetEndTimeUnixNano(), text: map[string]string{},
	}
	for _, l := range s.GetLinks() {
		out.links = append(out.links, hex.EncodeToString(l.GetSpanId()))
	}
	for _, a := range s.GetAttributes() {
		switch a.GetKey() {
		case "countinghouse.rows":
			out.rows = a.GetValue().GetIntValue()
		case "http.response.status_code":
			out.httpStatus = a.GetValue().GetIntValue()
		default:
			out.text[a.GetKey()] = a.GetValue().GetStringValue()
		}
	}
	return out
}

// of are the spans of a service, by name, that belong to a trace and to a parent; "" is any.
func (c *spans) of(service, name, trace, parent string) []span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.all), func(s span) bool {
		return s.service != "countinghouse-"+service || s.name != name || trace != "" && s.trace != trace || parent != "" && s.parent != parent
	})
}
