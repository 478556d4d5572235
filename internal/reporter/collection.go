package reporter

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// jsonBody describes a body that readBody reads.
func jsonBody[T any](s *server, name string) *huma.RequestBody {
	return &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/json": {Schema: s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, name)},
	}}
}

// rawBody is a request whose body its handler reads.
type rawBody struct {
	RawBody []byte
}

// oneID names one of a collection.
type oneID struct {
	ID string `path:"id"`
}

// oneIDBody is both.
type oneIDBody struct {
	ID      string `path:"id"`
	RawBody []byte
}

// operation is an endpoint of a collection, in one line.
func operation(id, method, path, tag, summary, description string) huma.Operation {
	op := huma.Operation{OperationID: id, Method: method, Path: path, Tags: []string{tag}, Summary: summary, Description: description}
	if method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch {
		op.MaxBodyBytes = -1 // checked by ourselves, to refuse in our shape
	}
	return op
}
