package demo

import "time"

// lateMonth is the month, counted from the beginning, whose close misses an event; the one before it has a gap.
const (
	gapMonth  = 3
	lateMonth = 4
)

// incidents are what goes wrong.
func (s *stage) incidents() {
	if s.on(gapMonth, 19) { // a collector was down for two days, and nobody has its data
		s.say(fromIdentity, "gap:sterling", "ingest.gap_declared", "sterling", s.at(14, 0), fields{
			"from": midnight(s.today.AddDate(0, 0, -2)), "to": midnight(s.today), "reason": "the log collector had no disk left",
		})
	}
	if s.on(1, 20) { // here the data came after all
		span := fields{"from": midnight(s.today.AddDate(0, 0, -1)), "to": midnight(s.today)}
		s.say(fromIdentity, "gap:ivory", "ingest.gap_declared", "ivory", s.at(8, 0), fields{"from": span["from"], "to": span["to"], "reason": "link down"})
		s.say(fromIdentity, "gap:ivory:closed", "ingest.gap_closed", "ivory", s.at(20, 0), span)
	}
	if s.on(lateMonth, 28) {
		s.afterTheClose()
	}
	s.mistakes()
	if s.day%7 == 3 { // nobody has created this account yet
		s.say(fromCloud, "unknown:"+date(s.today), "usage.metered", "newco", s.at(13, 0), fields{"meter": "tokens", "quantity": "250", "unit": "token"})
	}
}

// afterTheClose is what happened in a month and was recorded after its close: users who signed in, bandwidth, and
// a void of what had been counted.
func (s *stage) afterTheClose() {
	recorded := s.month(lateMonth+1).AddDate(0, 0, 5).Add(9 * time.Hour)
	s.say(fromIdentity, "user:sterling-driver", "user.registered", "sterling", s.at(8, 0), fields{"user_id": "sterling-driver", "login": "driver@sterling.example"})
	s.late(fromIdentity, "late:activity", "user.activity", "sterling", s.at(10, 0), recorded, fields{"user_id": "sterling-driver", "kind": "login", "result": "success", "application": "vpn"})
	s.late(fromCloud, "late:tokens", "usage.metered", "initech", s.at(12, 0), recorded, fields{"meter": "tokens", "quantity": "125000", "unit": "token", "region": "eu-central"})
	s.late(fromConnect, "late:bandwidth", "usage.metered", "alpine", s.at(18, 0), recorded, fields{
		"meter": "bandwidth_gib_essentials", "quantity": "10.000000", "unit": "GiB", "start": instant(s.at(17, 0)), "end": instant(s.at(18, 0)),
		"region": "EU", "platform": "azure", "asset": fields{"id": "alpine-gw1", "type": "GATEWAY"},
	})
	s.say(fromCloud, "wrong:tokens", "usage.metered", "umbra", s.at(9, 0), fields{"meter": "tokens", "quantity": "999999", "unit": "token", "region": "us-east"})
	s.late(fromCloud, "void:wrong:tokens", "event.voided", "umbra", recorded.Add(time.Hour), recorded.Add(time.Hour), fields{
		"target": fields{"source": fromCloud, "id": "wrong:tokens"}, "reason": "metered by a test",
	})
}

// mistakes break rules of the directory, one each; they are in the month before the present one.
func (s *stage) mistakes() {
	wrong := func(day int, id, typ, account string, data fields) {
		if s.on(months-1, day) {
			s.say(fromDirectory, "wrong:"+id, typ, account, s.at(17, day), data)
		}
	}
	wrong(8, "plan", "service.plan_set", "acorn", fields{"service": "sta", "plan": "STA Premium"}) // above its parent's
	wrong(9, "delete", "account.deleted", "harbor", fields{"reason": "it has customers"})
	wrong(10, "name", "account.renamed", "globex", fields{"name": "Acme Rockets"})
	wrong(11, "cycle", "account.reparented", "acme", fields{"new_parent_account_id": "acme-emea"})
	wrong(12, "name:plan", "service.plan_set", "hooli", fields{"service": "sta", "plan": "STA Platinum"})
	wrong(13, "inventory", "inventory.changed", "kappa", fields{
		"transaction_id": "TX-wrong", "subscription_id": "SUB-1", "cost": "0.00", "deltas": []fields{{"cert_type": "SSL", "product": "OV SSL", "delta": -25}}, // they are in use
	})
	if s.on(months-1, 15) { // a producer that says two things of one event, and one that takes back a void
		tokens := func(n string) fields { return fields{"meter": "tokens", "quantity": n, "unit": "token"} }
		s.say(fromCloud, "twice", "usage.metered", "globex", s.at(9, 0), tokens("100"))
		s.late(fromCloud, "twice", "usage.metered", "globex", s.at(9, 0), s.at(9, 30), tokens("101"))
		s.late(fromCloud, "void:void", "event.voided", "umbra", s.at(9, 0), s.at(9, 0), fields{
			"target": fields{"source": fromCloud, "id": "void:wrong:tokens"}, "reason": "it was right after all",
		})
	}
}
