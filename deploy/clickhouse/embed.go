// Package clickhouse holds the configuration files of the warehouse server.
//
// The engine that `countinghouse up` and the tests start runs with exactly these
// files, so what is tested is what is deployed; Go is here only to embed them.
package clickhouse

import _ "embed"

// Config is config.xml: server settings, valid as the engine's whole configuration
// and as a fragment in config.d of a clickhouse-server.
//
//go:embed config.xml
var Config []byte

// Users is users.xml.tmpl, a text/template of the users file. Its data: Analysts and
// Tables, as internal/localstack.WriteUsers takes them.
//
//go:embed users.xml.tmpl
var Users string
