package demo

import (
	"fmt"
	"time"
)

// network is a tenant of Secure Connect.
type network struct {
	tenant, region, platform string
	users, gateways          int
	gib                      int // a day, about
}

func networks() []network {
	return []network{
		{"alpine", "EU", "azure", 8, 2, 22}, {"alpine-lab", "EU", "mcp", 3, 1, 4},
		{"meridian-hq", "NA", "azure", 6, 1, 15}, {"meridian-port", "AP", "mcp", 4, 2, 9},
	}
}

// connect is Secure Connect: hours of what is deployed and bandwidth, reported once a day, and their prices.
func (s *stage) connect() {
	if s.day == 0 {
		s.prices()
	}
	for _, n := range networks() {
		if s.day == 0 {
			s.deploy(n)
		}
		if n.tenant == "alpine-lab" && s.on(2, 20) { // a new colleague, on trial for 45 days
			s.say(fromConnect, "asset:eva", "asset.registered", n.tenant, s.at(9, 0), fields{"asset_id": "eva@alpine.example", "asset_name": "Eva", "asset_type": "USER"})
			s.say(fromConnect, "trial:eva", "asset.trial_set", n.tenant, s.at(9, 0), fields{"asset_id": "eva@alpine.example", "trial_expiry": instant(s.today.AddDate(0, 0, 45))})
		}
		s.hours(n)
		s.bandwidth(n)
	}
}

func (s *stage) prices() {
	set := func(id, meter, region, currency string, from time.Time, tiers ...fields) {
		s.say(fromDirectory, "price:"+id, "price.set", "", s.today, fields{"meter": meter, "region": region, "currency": currency, "effective_from": instant(from), "tiers": tiers})
	}
	tier := func(from int, price string) fields { return fields{"from": from, "unit_price": price} }
	for _, currency := range []string{"EUR", "USD"} {
		set("user:"+currency, "user_hours_essentials", "*", currency, s.began, tier(0, "0.012"))
		set("tenant:"+currency, "tenant_hours_essentials", "*", currency, s.began, tier(0, "0.10"))
		set("transport:"+currency, "transport_hours_essentials", "*", currency, s.began, tier(0, "0.05"))
		set("advanced:"+currency, "user_hours_advanced", "*", currency, s.began, tier(0, "0.020"))
		set("user:"+currency+":2", "user_hours_essentials", "*", currency, s.month(4), tier(0, "0.0135"))
	}
	set("bandwidth:EU", "bandwidth_gib_essentials", "EU", "EUR", s.began, tier(0, "0"), tier(100, "0.08"), tier(500, "0.05"))
	set("bandwidth:NA", "bandwidth_gib_essentials", "NA", "USD", s.began, tier(0, "0"), tier(100, "0.09"), tier(500, "0.06"))
	set("bandwidth:AP", "bandwidth_gib_essentials", "AP", "USD", s.began, tier(0, "0"), tier(50, "0.12"), tier(250, "0.10"))
}

func userAsset(n network, i int) string {
	names := []string{"joe", "mia", "lee", "ana", "tom", "ida", "max", "zoe"}
	return fmt.Sprintf("%s@%s.example", names[i%len(names)], n.tenant)
}

func (s *stage) deploy(n network) {
	asset := func(id, name, kind string) {
		s.say(fromConnect, "asset:"+n.tenant+":"+id, "asset.registered", n.tenant, s.today, fields{"asset_id": id, "asset_name": name, "asset_type": kind})
	}
	asset(n.tenant+"-core", n.tenant+" core", "TENANT")
	for i := range n.users {
		asset(userAsset(n, i), userAsset(n, i), "USER")
	}
	for i := range n.gateways {
		asset(fmt.Sprintf("%s-gw%d", n.tenant, i+1), fmt.Sprintf("%s gateway %d", n.tenant, i+1), "GATEWAY")
	}
	if n.tenant == "alpine" { // the first month and a half of one user are free
		s.say(fromConnect, "trial:joe", "asset.trial_set", n.tenant, s.today, fields{"asset_id": userAsset(n, 0), "trial_expiry": instant(s.began.AddDate(0, 1, 14).Add(12 * time.Hour))})
	}
}

// hours says at the end of the day how long everything was deployed.
func (s *stage) hours(n network) {
	end := s.today.AddDate(0, 0, 1)
	use := func(meter, id, kind, quantity string, from, to time.Time) {
		s.late(fromConnect, fmt.Sprintf("%s:%s:%s", meter, id, date(s.today)), "usage.metered", n.tenant, to, end.Add(25*time.Minute), fields{
			"meter": meter, "quantity": quantity, "unit": "hour", "start": instant(from), "end": instant(to), "region": n.region, "asset": fields{"id": id, "type": kind},
		})
	}
	use("tenant_hours_essentials", n.tenant+"-core", "TENANT", "24", s.today, end)
	for i := range n.gateways {
		use("transport_hours_essentials", fmt.Sprintf("%s-gw%d", n.tenant, i+1), "GATEWAY", "24", s.today, end)
	}
	for i := range n.users {
		meter := "user_hours_essentials"
		if n.tenant == "alpine" && i == 1 && !s.today.Before(s.month(3)) {
			meter = "user_hours_advanced" // moved to the larger plan
		}
		if s.weekend() && i%3 == 2 {
			use(meter, userAsset(n, i), "USER", "10", s.at(8, 0), s.at(18, 0))
			continue
		}
		use(meter, userAsset(n, i), "USER", "24", s.today, end)
	}
	if n.tenant == "alpine-lab" && s.today.After(s.month(2).AddDate(0, 0, 19)) {
		use("user_hours_essentials", "eva@alpine.example", "USER", "24", s.today, end)
	}
}

// bandwidth of a gateway, in parts that go over midnight.
func (s *stage) bandwidth(n network) {
	r := s.chance("bandwidth " + n.tenant)
	for i := range n.gateways {
		gib := n.gib*700_000 + r.IntN(n.gib*600_000)
		if s.weekend() {
			gib /= 3
		}
		from := s.at(23, 30).AddDate(0, 0, -1)
		if s.day == 0 {
			from = s.today
		}
		to := s.at(23, 30)
		s.late(fromConnect, fmt.Sprintf("bandwidth:%s:%d:%s", n.tenant, i, date(s.today)), "usage.metered", n.tenant, to, to.Add(12*time.Minute), fields{
			"meter": "bandwidth_gib_essentials", "quantity": fmt.Sprintf("%d.%06d", gib/1_000_000, gib%1_000_000), "unit": "GiB", "start": instant(from), "end": instant(to),
			"region": n.region, "platform": n.platform, "asset": fields{"id": fmt.Sprintf("%s-gw%d", n.tenant, i+1), "type": "GATEWAY"},
		})
	}
}
