package demo

import "time"

// account of the group, at its beginning.
type account struct {
	id, name, kind, parent string
	sta, cloud             string // plans; "": the service is not used
	users                  int    // at the beginning
	seats, credits         int    // entitled, of sign-in; credits a quarter, about
	mode                   string
	busy                   int // how much cloud it uses
}

// accounts are parents first.
func accounts() []account {
	return []account{
		{id: "northwind", name: "Northwind Group", kind: "provider", sta: "STA Premium", users: 6},
		{id: "harbor", name: "Harbor Reselling", kind: "reseller", parent: "northwind", sta: "STA Premium", cloud: "Gold", users: 4},
		{id: "summit", name: "Summit Partners", kind: "reseller", parent: "northwind", sta: "STA", users: 3},
		{id: "cedar", name: "Cedar IT Services", kind: "reseller", parent: "northwind", sta: "STA", users: 3},
		{id: "acme", name: "Acme Rockets", kind: "customer", parent: "northwind", sta: "STA Premium", cloud: "Gold", users: 14, seats: 40, credits: 900, busy: 5},
		{id: "globex", name: "Globex", kind: "customer", parent: "northwind", sta: "STA Basic", cloud: "Silver", users: 10, seats: 25, credits: 500, busy: 3},
		{id: "lumen", name: "Lumen Savings Bank", kind: "customer", parent: "northwind", sta: "STA Premium", users: 12, seats: 30, credits: 1500},
		{id: "orchid", name: "Orchid Hotels, Ltd.", kind: "customer", parent: "northwind", sta: "STA", users: 8, seats: 10, credits: 250},
		{id: "acme-emea", name: "Acme Rockets EMEA", kind: "subscriber", parent: "acme", sta: "STA", users: 7, seats: 10, credits: 200, busy: 2},
		{id: "acme-apac", name: "Acme Rockets APAC", kind: "subscriber", parent: "acme", sta: "STA Basic", users: 5, seats: 10, credits: 200, busy: 1},
		{id: "initech", name: "Initech", kind: "customer", parent: "harbor", sta: "STA", cloud: "Silver", users: 9, seats: 20, credits: 400, busy: 2},
		{id: "umbra", name: "Umbra Labs", kind: "customer", parent: "harbor", sta: "STA Basic", cloud: "Bronze", users: 6, seats: 10, credits: 150, busy: 1},
		{id: "bluth", name: "Bluth Logistics", kind: "customer", parent: "harbor", sta: "STA Premium", users: 7, seats: 15, credits: 300},
		{id: "vandelay", name: "Vandelay Imports", kind: "customer", parent: "harbor", sta: "STA Basic", users: 4, seats: 5, credits: 60, mode: "TRIAL"},
		{id: "hooli", name: "Hooli Media", kind: "customer", parent: "harbor", sta: "STA", users: 8, seats: 12, credits: 200},
		{id: "sterling", name: "Sterling Freight", kind: "customer", parent: "harbor", sta: "STA Basic", users: 5, seats: 10, credits: 100},
		{id: "initech-labs", name: "Initech Labs", kind: "subscriber", parent: "initech", sta: "STA Basic", users: 4, seats: 5, credits: 50, busy: 1},
		{id: "acorn", name: "Acorn Insurance", kind: "customer", parent: "summit", sta: "STA Basic", users: 6, seats: 10, credits: 200},
		{id: "birchwood", name: "Birchwood Clinics", kind: "customer", parent: "summit", sta: "STA", users: 7, seats: 12, credits: 350},
		{id: "citadel", name: "Citadel Utilities", kind: "customer", parent: "summit", sta: "STA", users: 6, seats: 8, credits: 100},
		{id: "dovetail", name: "Dovetail Furniture", kind: "customer", parent: "summit", sta: "STA Basic", users: 4, seats: 5, credits: 50},
		{id: "falcon", name: "Falcon Couriers", kind: "customer", parent: "summit", sta: "STA Basic", users: 4, seats: 5, credits: 40, mode: "TRIAL"},
		{id: "granite", name: "Granite & Co | Stone", kind: "customer", parent: "cedar", sta: "STA Basic", users: 5, seats: 8, credits: 120},
		{id: "heron", name: "Heron Boats", kind: "customer", parent: "cedar", sta: "STA Basic", users: 4, seats: 6, credits: 80},
		{id: "ivory", name: "Ivory Pianos", kind: "customer", parent: "cedar", sta: "STA", users: 3, seats: 5, credits: 40},
		{id: "juniper", name: "Juniper Farms", kind: "customer", parent: "cedar", sta: "STA Basic", users: 5, seats: 8, credits: 90},
		{id: "kestrel", name: "Kestrel Aviation", kind: "customer", parent: "cedar", sta: "STA", users: 6, seats: 9, credits: 160},
		{id: "alpine-org", name: "Alpine Networks", kind: "organization", parent: "northwind"},
		{id: "alpine", name: "Alpine Production", kind: "tenant", parent: "alpine-org"},
		{id: "alpine-lab", name: "Alpine Lab", kind: "tenant", parent: "alpine-org"},
		{id: "meridian-org", name: "Meridian Shipping", kind: "organization", parent: "northwind"},
		{id: "meridian-hq", name: "Meridian Headquarters", kind: "tenant", parent: "meridian-org"},
		{id: "meridian-port", name: "Meridian Port", kind: "tenant", parent: "meridian-org"},
		{id: "trust", name: "Northwind Trust", kind: "distributor", parent: "northwind"},
		{id: "certware", name: "Certware", kind: "reseller", parent: "trust"},
		{id: "keystone", name: "Keystone Security", kind: "reseller", parent: "trust"},
		{id: "kappa", name: "Kappa Clinics", kind: "customer", parent: "certware"},
		{id: "lambda", name: "Lambda Legal", kind: "customer", parent: "certware"},
		{id: "sigma", name: "Sigma Stores", kind: "customer", parent: "keystone"},
		{id: "omega", name: "Omega Optics", kind: "customer", parent: "trust"},
	}
}

// newcomer joins in the second month.
func newcomer() account {
	return account{id: "evergreen", name: "Evergreen Energy", kind: "customer", parent: "summit", sta: "STA Basic", users: 5, seats: 8, credits: 100, mode: "PRODUCTION"}
}

// directory is what happens to accounts, plans and entitlements.
func (s *stage) directory() {
	if s.day == 0 {
		s.meters()
		for i, a := range accounts() {
			s.create(a, s.today.Add(time.Duration(i)*time.Millisecond))
		}
	}
	tell := func(month, day, hour, minute int, id, typ, account string, data fields) {
		if s.on(month, day) {
			s.say(fromDirectory, id, typ, account, s.at(hour, minute), data)
		}
	}
	tell(1, 12, 12, 20, "plan:globex:cloud", "service.plan_set", "globex", fields{"service": "cloud", "plan": "Gold"}) // usage before and after this instant is on different plans
	tell(1, 14, 9, 0, "plan:globex:sta", "service.plan_set", "globex", fields{"service": "sta", "plan": "STA"})
	if s.on(1, 3) {
		s.create(newcomer(), s.at(10, 0))
	}
	tell(2, 8, 11, 0, "convert:vandelay", "account.converted", "vandelay", fields{"from": "TRIAL", "to": "PRODUCTION"})
	tell(2, 8, 11, 5, "entitle:vandelay:2", "entitlement.set", "vandelay", entitlement(25, 900, s.today, "STANDARD"))
	tell(2, 10, 16, 30, "rename:heron", "account.renamed", "heron", fields{"name": "Heron & Sons Boats"})
	tell(3, 6, 8, 0, "status:kestrel:off", "service.status_set", "kestrel", fields{"service": "sta", "status": "Disabled"})
	tell(4, 7, 8, 0, "status:kestrel:on", "service.status_set", "kestrel", fields{"service": "sta", "status": "Active"})
	tell(3, 16, 15, 0, "delete:dovetail", "account.deleted", "dovetail", fields{"reason": "moved to another provider"})
	tell(4, 5, 9, 30, "move:juniper", "account.reparented", "juniper", fields{"new_parent_account_id": "harbor"})
	tell(5, 10, 10, 0, "plan:hooli:sta", "service.plan_set", "hooli", fields{"service": "sta", "plan": "STA Premium"})
	tell(5, 1, 0, 0, "entitle:acme:2", "entitlement.set", "acme", entitlement(60, 3000, s.today, "STANDARD", "RISK"))
}

func (s *stage) create(a account, at time.Time) {
	data := fields{"name": a.name, "kind": a.kind}
	if a.parent != "" {
		data["parent_account_id"] = a.parent
	}
	switch a.kind {
	case "customer", "subscriber":
		mode := a.mode
		if mode == "" {
			mode = "PRODUCTION"
		}
		if mode == "TRIAL" {
			data["trial_ends_at"] = date(at.AddDate(0, 0, 60)) + "T00:00:00Z"
		}
		data["contract_mode"] = mode
	case "organization":
		data["currency"] = "EUR"
		if a.id == "meridian-org" {
			data["currency"] = "USD"
		}
	}
	if a.parent == "certware" || a.parent == "keystone" {
		data["reseller"] = a.parent
	}
	s.say(fromDirectory, "account:"+a.id, "account.created", a.id, at, data)
	if a.sta != "" {
		s.say(fromDirectory, "plan:"+a.id+":sta:0", "service.plan_set", a.id, at, fields{"service": "sta", "plan": a.sta})
		s.say(fromDirectory, "status:"+a.id+":0", "service.status_set", a.id, at, fields{"service": "sta", "status": "Active"})
		s.say(fromDirectory, "period:"+a.id+":0", "service.period_set", a.id, at, fields{
			"service": "sta", "start": instant(s.today), "end": instant(s.today.AddDate(2, 0, 0)),
		})
	}
	if a.cloud != "" {
		s.say(fromDirectory, "plan:"+a.id+":cloud:0", "service.plan_set", a.id, at, fields{"service": "cloud", "plan": a.cloud})
	}
	if a.seats > 0 {
		s.say(fromDirectory, "entitle:"+a.id+":1", "entitlement.set", a.id, at, entitlement(a.seats, 3*a.credits, s.today, "STANDARD"))
	}
}

func entitlement(users, credits int, start time.Time, bundles ...string) fields {
	return fields{
		"entitlement_id": "sign-in", "kind": "USERS", "quantity": users, "sms_voice_credits": credits, "bundles": bundles,
		"billing": "PRE_PAID", "start": instant(start), "status": "ACTIVE",
	}
}
