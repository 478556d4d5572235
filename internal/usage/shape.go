package usage

// shape is the table entry of one event type: what its data holds, and what needs code.
type shape struct {
	name      string
	doc       string
	account   bool // subject is required: the event is about an account
	directory bool // the event changes the directory, meters or prices: the fold reads it
	fields    []field
	check     func(r *reading, data int32, at *path) // rules that a table cannot say; data is well-formed
}

// KnownType reports whether a type has a meaning here, as opposed to ingest.extra_types.
func KnownType(typ string) bool { return shapeOf(typ) != nil }

// Directory reports whether events of the type also go to directory_events, which the fold reads.
func Directory(typ string) bool {
	s := shapeOf(typ)
	return s != nil && s.directory
}

// Types lists the known types in the order of docs/reference/events.md.
func Types() []string {
	all := make([]string, len(shapes))
	for i := range shapes {
		all[i] = shapes[i].name
	}
	return all
}

func shapeOf(typ string) *shape { return shapesByName[typ] }

var shapesByName = func() map[string]*shape {
	m := make(map[string]*shape, len(shapes))
	for i := range shapes {
		s := &shapes[i]
		s.fields = append(s.fields, actor, sourceSeq)
		m[s.name] = s
	}
	return m
}()

// Every data may say who did it and in which order its source counts.
var (
	actor     = field{name: "actor", kind: kindObject, fields: []field{text("id"), text("name"), text("email")}}
	sourceSeq = field{name: "source_seq", kind: kindInteger}
)

// Constructors of optional fields; need makes one required.
func text(name string, enum ...string) field { return field{name: name, kind: kindText, enum: enum} }
func dec(name string) field                  { return field{name: name, kind: kindDecimal} }
func unsigned(name string) field {
	return field{name: name, kind: kindDecimal, nonNegative: true}
}
func whole(name string) field   { return field{name: name, kind: kindInteger} }
func instant(name string) field { return field{name: name, kind: kindInstant} }
func object(name string, fields ...field) field {
	return field{name: name, kind: kindObject, fields: fields}
}
func list(name string, fields ...field) field {
	return field{name: name, kind: kindList, fields: fields}
}
func need(f field) field {
	f.required = true
	return f
}

// AssetTypes are the kinds of asset of Secure Connect.
func AssetTypes() []string { return []string{"USER", "TRANSPORT", "TENANT", "GATEWAY", "ENDPOINT"} }

var (
	orderedItem = []field{need(text("cert_type")), need(text("product")), need(unsigned("quantity")), dec("unit_price")}
	stockDelta  = []field{need(text("cert_type")), need(text("product")), need(dec("delta"))}
	certificate = []field{
		need(text("certificate_id")), need(text("subscription_id")), text("cert_type"), text("product"), text("replaces"),
	}
	elasticLine = []field{
		need(whole("line_no")), need(text("item")), text("item_version"), need(dec("item_quantity")),
		need(field{name: "response", kind: kindCode}), text("activation_id"), dec("mapped_entitled_count"), dec("used"),
		text("series"), text("version"), dec("meter_cost"), need(dec("meter_quantity")),
		object("refund_of", need(text("correlation_id")), need(whole("line_no"))),
		{name: "meta_data", kind: kindFree},
	}
)

// shapes is the reference of event types (docs/reference/events.md). schema/event is generated from it.
var shapes = []shape{
	{name: TypeMetered, doc: "Something was used: a quantity of a meter, at an instant or over a span.", fields: []field{
		need(text("meter")), need(dec("quantity")), text("unit"),
		object("asset", need(text("id")), text("name"), text("type", AssetTypes()...)),
		instant("start"), instant("end"), text("region"), text("platform"), instant("trial_expiry"),
		object("consumer", text("type"), need(text("id"))),
		text("item"), text("item_version"), text("plan"), {name: "dimensions", kind: kindDimensions},
	}, check: (*reading).metered},
	{name: TypeCharged, doc: "A message was sent and its credits were charged.", fields: []field{
		need(text("message_id")), need(text("user_id")), need(text("channel", "sms", "voice")), need(dec("credits")),
	}, check: (*reading).credits},
	{name: TypeCreditReturned, doc: "Credits of a message were given back; counts negative.", fields: []field{
		need(text("message_id")), need(dec("credits")),
	}, check: (*reading).credits},
	{name: TypeActivity, doc: "A user signed in, or tried to.", fields: []field{
		need(text("user_id")), need(text("kind")), need(text("result", "success", "failure")), text("application"),
	}},
	{name: TypeElastic, doc: "Elastic tokens were granted, charged, refused or refunded: a decision already taken.", fields: []field{
		need(text("operation", "access_request", "automatic_charge", "refund")), need(text("instance_id")),
		need(object("consumer", need(text("type")), need(text("value")))), text("session_id"), text("session_state"),
		need(list("lines", elasticLine...)),
	}, check: (*reading).elastic},
	{name: TypeVoided, doc: "An earlier event is treated as if it had never happened.", fields: []field{
		need(object("target", need(text("source")), need(text("id")))), need(text("reason")),
	}, check: (*reading).voided},

	{name: "meter.defined", doc: "What a meter means: its unit and how it is aggregated.", directory: true, fields: []field{
		need(text("meter")), text("meter_id"), text("element"), need(text("unit")), text("plan"),
		need(text("aggregation", "sum", "count", "max", "min", "avg", "latest", "unique", "time_weighted")),
		whole("scale"), need(text("kind", "usage", "secure_connect")), text("service"),
	}, check: (*reading).meterDefined},
	{name: "price.set", doc: "The tiers of a meter's price in a region, from an instant on.", directory: true, fields: []field{
		need(text("meter")), need(text("region")), need(text("currency")), need(instant("effective_from")),
		need(list("tiers", need(unsigned("from")), need(unsigned("unit_price")))),
	}, check: (*reading).priceSet},
	{name: "account.created", doc: "An account exists from now on.", account: true, directory: true, fields: []field{
		need(text("name")),
		need(text("kind", "provider", "subscriber", "organization", "tenant", "partner", "distributor", "reseller", "customer", "service_provider", "other")),
		text("parent_account_id"), text("contract_mode"), instant("trial_ends_at"), text("currency"), text("reseller"),
	}},
	{name: "account.renamed", doc: "An account has a new name.", account: true, directory: true, fields: []field{need(text("name"))}},
	{name: "account.reparented", doc: "An account has a new parent.", account: true, directory: true, fields: []field{need(text("new_parent_account_id"))}},
	{name: "account.deleted", doc: "An account exists no longer.", account: true, directory: true, fields: []field{text("reason")}},
	{name: "account.converted", doc: "An account changed its contract mode, such as TRIAL to PRODUCTION.", account: true, directory: true, fields: []field{
		need(text("from")), need(text("to")),
	}},
	{name: "service.plan_set", doc: "The plan of an account's service.", account: true, directory: true, fields: []field{need(text("service")), need(text("plan"))}},
	{name: "service.status_set", doc: "The status of an account's service.", account: true, directory: true, fields: []field{need(text("service")), need(text("status"))}},
	{name: "service.period_set", doc: "When an account's service runs.", account: true, directory: true, fields: []field{
		need(text("service")), need(instant("start")), need(instant("end")),
	}, check: (*reading).period},
	{name: "entitlement.set", doc: "What an account may use.", account: true, directory: true, fields: []field{
		need(text("entitlement_id")), need(text("kind", "USERS", "TRANSACTIONS")), need(unsigned("quantity")),
		unsigned("sms_voice_credits"), {name: "bundles", kind: kindTexts}, text("billing"),
		need(instant("start")), instant("end"), text("status"),
	}, check: (*reading).period},
	{name: "asset.registered", doc: "An asset exists from now on.", directory: true, fields: []field{
		need(text("asset_id")), need(text("asset_name")), need(text("asset_type", AssetTypes()...)),
	}},
	{name: "asset.renamed", doc: "An asset has a new name.", directory: true, fields: []field{need(text("asset_id")), need(text("asset_name"))}},
	{name: "asset.removed", doc: "An asset exists no longer.", directory: true, fields: []field{need(text("asset_id"))}},
	{name: "asset.trial_set", doc: "Until when an asset is under trial.", directory: true, fields: []field{need(text("asset_id")), need(instant("trial_expiry"))}},

	{name: "user.registered", doc: "A user belongs to an account from now on.", directory: true, fields: []field{need(text("user_id")), text("login")}},
	{name: "user.removed", doc: "A user is registered no longer.", directory: true, fields: []field{need(text("user_id"))}},
	{name: "user.status_set", doc: "Whether a user is active.", directory: true, fields: []field{need(text("user_id")), need(text("status", "ACTIVE", "INACTIVE"))}},
	{name: "token.state_set", doc: "The state of a user's token.", directory: true, fields: []field{
		need(text("token_id")), need(text("user_id")), text("token_type"), need(text("state", "assigned", "active", "suspended", "revoked", "expired")),
	}},
	{name: "instance.created", doc: "An elastic instance exists from now on.", directory: true, fields: []field{need(text("instance_id"))}},
	{name: "ratetable.published", doc: "What items of a series cost in elastic tokens.", directory: true, fields: []field{
		need(text("series")), need(text("version")), need(instant("effective_from")), need(field{name: "items", kind: kindFreeList}),
	}},
	{name: "lineitem.mapped", doc: "A line item with elastic tokens belongs to an instance.", directory: true, fields: []field{
		need(text("activation_id")), need(text("instance_id")), need(unsigned("quantity")), need(instant("start")), instant("end"),
		need(text("state", lineStates()...)), need(text("series")),
	}, check: (*reading).period},
	{name: "lineitem.changed", doc: "A line item changed.", directory: true, fields: []field{
		need(text("activation_id")), unsigned("quantity"), instant("end"), text("state", lineStates()...),
	}},
	{name: "subscription.ordered", doc: "A subscription to certificates was ordered.", directory: true, fields: []field{
		need(text("transaction_id")), need(text("subscription_id")), need(text("name")), {name: "products", kind: kindTexts},
		need(list("items", orderedItem...)), need(whole("term_months")), need(instant("start")), need(instant("end")),
		{name: "auto_renew", kind: kindBool}, need(dec("cost")), need(text("currency")),
	}, check: (*reading).period},
	{name: "subscription.modified", doc: "A subscription's terms changed.", directory: true, fields: []field{
		need(text("transaction_id")), need(text("subscription_id")), text("name"), {name: "products", kind: kindTexts},
		list("items", orderedItem...), whole("term_months"), instant("start"), instant("end"),
		{name: "auto_renew", kind: kindBool}, dec("cost"), text("currency"),
	}, check: (*reading).period},
	{name: "subscription.renewed", doc: "A subscription has a new term.", directory: true, fields: []field{
		need(text("transaction_id")), need(text("subscription_id")), need(instant("new_start")), need(instant("new_end")),
		list("items", orderedItem...), need(dec("cost")),
	}},
	{name: "subscription.cancelled", doc: "A subscription ended.", directory: true, fields: []field{
		need(text("transaction_id")), need(text("subscription_id")), need(dec("cost")),
	}},
	{name: "inventory.changed", doc: "The current inventory of a subscription changed.", directory: true, fields: []field{
		need(text("transaction_id")), need(text("subscription_id")), need(list("deltas", stockDelta...)), need(dec("cost")),
	}},
	{name: "renewal_inventory.changed", doc: "The inventory of the next term changed.", directory: true, fields: []field{
		need(text("transaction_id")), need(text("subscription_id")), need(list("deltas", stockDelta...)), need(dec("cost")),
	}},
	{name: "certificate.issued", doc: "A certificate was issued.", directory: true, fields: certificate},
	{name: "certificate.reissued", doc: "A certificate was issued in place of another.", directory: true, fields: certificate},
	{name: "certificate.revoked", doc: "A certificate was revoked.", directory: true, fields: certificate},
	{name: "certificate.expired", doc: "A certificate expired.", directory: true, fields: certificate},
	{name: "ingest.gap_declared", doc: "Usage of a span is known to be missing.", directory: true, fields: []field{
		need(instant("from")), need(instant("to")), need(text("reason")),
	}, check: (*reading).gap},
	{name: "ingest.gap_closed", doc: "Missing usage of a span has arrived.", directory: true, fields: []field{
		need(instant("from")), need(instant("to")),
	}, check: (*reading).gap},
}

func lineStates() []string { return []string{"DEPLOYED", "INACTIVE", "OBSOLETE"} }
