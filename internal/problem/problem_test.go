package problem_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/countinghouse/countinghouse/internal/problem"
)

func TestWrite(t *testing.T) {
	i := 2
	w := httptest.NewRecorder()
	problem.Write(w, problem.New(http.StatusUnprocessableEntity, "invalid-event", "1 of 3 events is invalid").
		With(problem.Item{Index: &i, Pointer: "/data/quantity", Code: "quantity", Detail: "more than 9 decimals"}).
		Correlated("c-1"))
	want := `{"type":"urn:countinghouse:problem:invalid-event","title":"Unprocessable Entity","status":422,` +
		`"detail":"1 of 3 events is invalid","code":"invalid-event","errors":[{"index":2,"pointer":"/data/quantity",` +
		`"code":"quantity","detail":"more than 9 decimals"}],"correlation_id":"c-1"}` + "\n"
	if got := w.Body.String(); got != want {
		t.Errorf("body:\n got %s\nwant %s", got, want)
	}
	if w.Code != 422 || w.Header().Get("Content-Type") != problem.ContentType {
		t.Errorf("status %d, content type %q", w.Code, w.Header().Get("Content-Type"))
	}
}
