// Package schema embeds the contracts that other people's programs rely on, as files: the event
// schemas, the log's chunk format and the warehouse's tables and views. It holds no logic.
package schema

import "embed"

// ClickHouse is the warehouse's migrations and views, clickhouse/NNNN_name.sql, applied in order.
//
//go:embed clickhouse/*.sql
var ClickHouse embed.FS

// Event is the JSON Schemas of the event types, event/TYPE.json, and cloudevent.json, their envelope.
//
//go:embed event/*.json
var Event embed.FS

// Log is the format of a chunk, log/chunk.proto.
//
//go:embed log/*.proto
var Log embed.FS
