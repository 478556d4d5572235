package ingest_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/ingest"
)

// typical is a batch of usage events of about 330 bytes each, with ids that differ from call to call.
func typical(call, n int) []byte {
	var b bytes.Buffer
	b.WriteByte('[')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"specversion":"1.0","id":"%s","source":"/gateway/eu-1","type":"usage.metered","subject":"account-%04d",`+
			`"time":"2026-03-19T10:%02d:%02d.%03dZ","datacontenttype":"application/json","data":{"meter":"tokens","quantity":%d,"unit":"token",`+
			`"region":"eu","platform":"api","dimensions":{"model":"large-%d","direction":"output"}}}`,
			uuid.NewSHA1(uuid.Nil, fmt.Appendf(nil, "%d-%d", call, i)), (call*n+i)%2000, i%60, call%60, i%1000, 100+i, i%7)
	}
	b.WriteByte(']')
	return b.Bytes()
}

func cpuSeconds(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// BenchmarkHandler is the front door without a network: 100 events a request, a log that answers at once.
func BenchmarkHandler(b *testing.B) {
	handler := ingest.BenchHandler(func(context.Context, string, uuid.UUID, []byte) (eventlog.Receipt, error) {
		return eventlog.Receipt{}, nil
	}, now)
	const n = 100
	bodies := make([][]byte, 64)
	for i := range bodies {
		bodies[i] = typical(i, n)
	}
	b.SetBytes(int64(len(bodies[0])))
	b.ReportAllocs()
	var calls atomic.Int64
	began := cpuSeconds(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := httptest.NewRequest(http.MethodPost, "/api/v1/events", bytes.NewReader(bodies[calls.Add(1)%64]))
			r.Header.Set("Content-Type", "application/cloudevents-batch+json")
			r.Header.Set("Authorization", "Bearer x")
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != 202 {
				b.Errorf("%d %s", w.Code, w.Body)
				return
			}
		}
	})
	b.ReportMetric((cpuSeconds(b)-began)/float64(b.N*n)*1e6, "cpu-s/Mevents")
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkServed is the whole of ingest, sockets included, with the client's own work taken out of the
// figure as far as it can be: the client sends prepared bytes and reads as little as it may.
func BenchmarkServed(b *testing.B) {
	server := httptest.NewServer(ingest.BenchHandler(func(context.Context, string, uuid.UUID, []byte) (eventlog.Receipt, error) {
		return eventlog.Receipt{}, nil
	}, now))
	defer server.Close()
	const n = 100
	body := typical(1, n)
	head := fmt.Sprintf("POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Type: application/cloudevents-batch+json\r\nContent-Length: %d\r\n\r\n", len(body))
	request := append([]byte(head), body...)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	b.SetParallelism(4 * runtime.GOMAXPROCS(0))
	began := cpuSeconds(b)
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", strings.TrimPrefix(server.URL, "http://"))
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		answer := make([]byte, 4096)
		for pb.Next() {
			if _, err := c.Write(request); err != nil {
				b.Error(err)
				return
			}
			k, err := c.Read(answer)
			if err != nil || !bytes.HasPrefix(answer[:k], []byte("HTTP/1.1 202")) {
				b.Errorf("%v %s", err, answer[:k])
				return
			}
		}
	})
	b.ReportMetric((cpuSeconds(b)-began)/float64(b.N*n)*1e6, "cpu-s/Mevents")
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkToTheLog is ingest with a real NATS server that writes to disk before it acknowledges, both
// in this process, and 16 clients. chunk-events tells how well requests share chunks.
func BenchmarkToTheLog(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d := open(b)
			bodies := make([][]byte, 64)
			for i := range bodies {
				bodies[i] = typical(i, n)
			}
			header := http.Header{"Content-Type": {"application/cloudevents-batch+json"}}
			b.SetParallelism(8)
			var calls atomic.Int64
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if got := d.post(b, "", header, bodies[calls.Add(1)%64]); got.status != 202 {
						b.Errorf("%d %s", got.status, got.body)
						return
					}
				}
			})
			b.StopTimer()
			info, err := d.log.Info(b.Context(), 0)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N*n)/float64(info.Last), "chunk-events")
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
