package warehouse

// AnalystTable is a relation under the views of usage_api that an analyst needs SELECT on, because the
// views are SQL SECURITY INVOKER.
type AnalystTable struct {
	Database, Name string
	Tenant         string // the column a row policy confines to the analyst's tenant; "" where there is none
}

// AnalystTables lists what the analysts' views of a database stand on. A table missing here makes the
// view above it answer ACCESS_DENIED, which a test would show; a policy missing here would show other
// tenants' rows. The entries without a tenant are views over the others, and the state of the shards.
func AnalystTables(database string) []AnalystTable {
	var tables []AnalystTable
	for _, name := range []string{"events", "pieces", "usage_hourly", "usage_monthly", "directory_events", "directory_generations", "directory_accounts",
		"directory_steps", "directory_plans", "directory_trees", "directory_meters", "directory_rulings", "dead_letters", "ledger", "elastic_lines", "month_versions", "month_rows", "month_adjustments"} {
		tables = append(tables, AnalystTable{Database: database, Name: name, Tenant: "tenant"})
	}
	for _, name := range []string{
		"shard_status", "credits_resolved", "meters", "counting", "counting_live", "directory_newest", "plan_spans", "account_steps", "ancestors",
		"monthly_facts", "asset_history", "asset_records", "asset_pieces", "monthly_own", "monthly_open", "settled", "gauge_spans", "month_published", "line_item_steps", "elastic_instances", "elastic_resolved",
	} {
		tables = append(tables, AnalystTable{Database: database, Name: name})
	}
	return tables
}
