package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// AdminServer serves /livez, /readyz, /metrics, /version and /debug/pprof on a port of its own, so
// that neither load nor authentication of the public port can keep an operator out.
type AdminServer struct {
	listener net.Listener
	server   *http.Server
	done     chan struct{}
}

// Admin listens on addr and serves until Close.
func Admin(addr string, h *Health, reg *prometheus.Registry, v Version) (*AdminServer, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("admin port: %w", err)
	}
	a := &AdminServer{listener: l, done: make(chan struct{})}
	a.server = &http.Server{
		Handler:           AdminHandler(h, reg, v),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
	go func() {
		defer close(a.done)
		_ = a.server.Serve(l) // returns ErrServerClosed once Close is called, and nothing else ends it
	}()
	return a, nil
}

// AdminHandler is what Admin serves.
func AdminHandler(h *Health, reg *prometheus.Registry, v Version) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		text(w, http.StatusOK, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ready, body := h.report()
		status, word := http.StatusOK, "ready\n"
		if !ready {
			status, word = http.StatusServiceUnavailable, "not ready\n"
		}
		// A failing probe always says why; ?verbose adds the checks that pass.
		if r.URL.Query().Has("verbose") || !ready {
			word = body + word
		}
		text(w, status, word)
	})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // the client hung up; nobody is left to tell
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: reg}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

func text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // the client hung up; nobody is left to tell
}

// Addr is the address it listens on, with the port that was really taken.
func (a *AdminServer) Addr() string { return a.listener.Addr().String() }

// Close stops it and waits until it has.
func (a *AdminServer) Close(ctx context.Context) error {
	err := a.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, a.server.Close())
	}
	<-a.done
	return err
}
