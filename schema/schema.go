// Package schema embeds the contracts that other people's programs rely on, as files: the event
// schemas, the log's chunk format and the warehouse's tables and views. It holds no logic.
package schema

import "embed"

// ClickHouse is the warehouse's migrations and views, clickhouse/NNNN_name.sql, applied in order.
//
//go:embed clickhouse/*.sql
var ClickHouse embed.FS
