package eventlog

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// TestRefusalsByClass: what the server says of a publish decides whether the same bytes are sent again.
// A cluster that is still storing the first attempt refuses the second; that is no refusal of the bytes.
func TestRefusalsByClass(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		refusal jetstream.APIError
		want    error
	}{
		"the same id is in process": {jetstream.APIError{Code: 409, ErrorCode: 10158, Description: "duplicate message id is in process"}, ErrUnavailable},
		"no leader":                 {jetstream.APIError{Code: 503, ErrorCode: 10008, Description: "JetStream system temporarily unavailable"}, ErrUnavailable},
		"storage full":              {jetstream.APIError{Code: 500, ErrorCode: 10047, Description: "insufficient storage resources available"}, ErrFull},
		"stream full":               {jetstream.APIError{Code: 503, ErrorCode: 10077, Description: "maximum bytes exceeded"}, ErrFull},
		"too large":                 {jetstream.APIError{Code: 400, ErrorCode: 10054, Description: "message size exceeds maximum allowed"}, ErrTooLarge},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := (&Conn{}).publishError(&tt.refusal); !errors.Is(err, tt.want) {
				t.Errorf("class of %v is %v, want %v", &tt.refusal, err, tt.want)
			}
		})
	}
}
