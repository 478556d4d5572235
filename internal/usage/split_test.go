package usage_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/countinghouse/countinghouse/internal/usage"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		doc  string
		want []string // nil: ErrSyntax
	}{
		"one event":             {` {"a":1} `, []string{` {"a":1} `}},
		"none":                  {`[]`, []string{}},
		"two":                   {`[ {"a":1} , {"a":[2]} ] `, []string{`{"a":1}`, `{"a":[2]}`}},
		"faults of one event":   {"[{\"a\":1,\"a\":2},{\"b\":\"\xff\"},null]", []string{`{"a":1,"a":2}`, "{\"b\":\"\xff\"}", "null"}},
		"not closed":            {`[{"a":1}`, nil},
		"text behind":           {`[{"a":1}] x`, nil},
		"nothing between":       {`[{"a":1},,{"b":1}]`, nil},
		"no JSON, as one event": {`x`, []string{`x`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			docs, err := usage.Split([]byte(tt.doc))
			got := make([]string, 0, len(docs))
			for _, d := range docs {
				got = append(got, string(d))
			}
			if errors.Is(err, usage.ErrSyntax) != (tt.want == nil) || tt.want != nil && !slices.Equal(got, tt.want) {
				t.Errorf("Split(%q) = %q, %v, want %q", tt.doc, got, err, tt.want)
			}
		})
	}
}
