package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector is where spans are sent: OTLP over HTTP. The library's own client does as much, and brings gRPC with it,
// which makes each program 10 MB larger.
type collector struct {
	endpoint string
	client   *http.Client
}

// Start has nothing to do.
func (c *collector) Start(context.Context) error { return nil }

// Stop drops the connections.
func (c *collector) Stop(context.Context) error {
	c.client.CloseIdleConnections()
	return nil
}

// answerMost is how much of an answer is read: no more than its status is wanted.
const answerMost = 64 << 10

// UploadTraces sends spans once; what is not taken is dropped.
func (c *collector) UploadTraces(ctx context.Context, of []*spans.ResourceSpans) error {
	body, err := proto.Marshal(&spans.TracesData{ResourceSpans: of}) // on the wire the same as the request that the protocol names
	if err != nil {
		return fmt.Errorf("encode spans: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("send spans: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	res, err := c.client.Do(req)
	if err != nil {
		return fmt.Errorf("send spans: %w", err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, answerMost) // so that the connection can be used again
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("send spans: %s: %s", c.endpoint, res.Status)
	}
	return nil
}
