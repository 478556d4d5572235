package signin_test

import (
	"testing"

	"github.com/countinghouse/countinghouse/internal/reporter/signin"
)

func TestLocal(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/months?x=1": "/months?x=1", "": "/", "//evil.example/x": "/", "https://evil.example/": "/", "javascript:alert(1)": "/", `/\evil.example`: "/", "months": "/",
		"/\t/evil.example": "/", "/#here": "/",
	} {
		if got := signin.Local(in); got != want {
			t.Errorf("Local(%q) = %q, want %q", in, got, want)
		}
	}
}
