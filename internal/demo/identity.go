package demo

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// identity is who can sign in, as of today.
type identity struct {
	homes []*home
}

// home is an account and its people.
type home struct {
	account account
	made    int // users so far, removed ones included
	people  []person
	closed  bool
}

type person struct {
	id     string
	token  bool // has an active token
	active bool // status
}

// people is sign-in: users come and go, sign in and get messages. Figures of STA and of the tenants' report.
func (s *stage) people() {
	if s.day == 0 {
		for _, a := range accounts() {
			if a.users > 0 {
				s.identity.homes = append(s.identity.homes, &home{account: a})
			}
		}
	}
	if s.on(1, 3) {
		s.identity.homes = append(s.identity.homes, &home{account: newcomer()})
	}
	for _, h := range s.identity.homes {
		if h.closed {
			continue
		}
		if h.account.id == "dovetail" && s.on(3, 16) {
			h.closed = true
			continue
		}
		s.comeAndGo(h)
		s.signIn(h)
		if h.account.credits > 0 {
			s.messages(h)
		}
	}
}

func (s *stage) comeAndGo(h *home) {
	r := s.chance("people " + h.account.id)
	born := s.at(10, 30)
	if s.day == 0 {
		born = s.at(0, 30) // exists from the first hour on
	}
	if len(h.people) == 0 && h.made == 0 {
		for range h.account.users {
			s.register(h, born)
		}
		return
	}
	if s.weekend() {
		return
	}
	switch luck := r.IntN(100); {
	case luck < 3:
		s.register(h, s.worktime(r))
	case luck < 4 && len(h.people) > 3:
		i := r.IntN(len(h.people))
		s.say(fromIdentity, "gone:"+h.people[i].id, "user.removed", h.account.id, s.worktime(r), fields{"user_id": h.people[i].id})
		h.people = append(h.people[:i], h.people[i+1:]...)
	case luck < 6 && len(h.people) > 0:
		p := &h.people[r.IntN(len(h.people))]
		p.active = !p.active
		status := "INACTIVE"
		if p.active {
			status = "ACTIVE"
		}
		s.say(fromIdentity, "status:"+p.id+":"+date(s.today), "user.status_set", h.account.id, s.worktime(r), fields{"user_id": p.id, "status": status})
	case luck < 9 && len(h.people) > 0:
		p := &h.people[r.IntN(len(h.people))]
		p.token = !p.token
		s.token(h, *p, s.worktime(r))
	}
}

func (s *stage) register(h *home, at time.Time) {
	h.made++
	p := person{id: fmt.Sprintf("%s-u%d", h.account.id, h.made), active: true, token: h.made%5 != 0}
	s.say(fromIdentity, "user:"+p.id, "user.registered", h.account.id, at, fields{"user_id": p.id, "login": fmt.Sprintf("user%d@%s.example", h.made, h.account.id)})
	if p.token {
		s.token(h, p, at.Add(time.Hour))
	}
	h.people = append(h.people, p)
}

func (s *stage) token(h *home, p person, at time.Time) {
	state := "active"
	if !p.token {
		state = "suspended"
	}
	s.say(fromIdentity, fmt.Sprintf("token:%s:%s", p.id, date(s.today)), "token.state_set", h.account.id, at, fields{
		"token_id": "t-" + p.id, "user_id": p.id, "token_type": "MobilePASS", "state": state,
	})
}

func (s *stage) signIn(h *home) {
	r := s.chance("activity " + h.account.id)
	some := 30 // of a hundred people, on a working day
	if s.weekend() {
		some = 4
	}
	applications := []string{"portal", "mail", "vpn", "payroll"}
	for _, p := range h.people {
		luck, at := r.IntN(100), s.worktime(r)
		if luck >= some || !p.active {
			continue
		}
		result := "success"
		if luck == 0 {
			result = "failure"
		}
		s.say(fromIdentity, fmt.Sprintf("activity:%s:%s", p.id, date(s.today)), "user.activity", h.account.id, at, fields{
			"user_id": p.id, "kind": "login", "result": result, "application": applications[r.IntN(len(applications))],
		})
	}
}

// messages cost credits; of some the credits are given back a day later.
func (s *stage) messages(h *home) {
	r := s.chance("messages " + h.account.id)
	most := 3
	if s.weekend() || h.account.mode == "TRIAL" {
		most = 1
	}
	for n := range r.IntN(most + 1) {
		s.message(h, r, n)
	}
}

func (s *stage) message(h *home, r *rand.Rand, n int) {
	if len(h.people) == 0 {
		return
	}
	to, id := h.people[r.IntN(len(h.people))], fmt.Sprintf("m-%s-%s-%d", h.account.id, date(s.today), n)
	channel, credits := "sms", "1"
	if r.IntN(6) == 0 {
		channel, credits = "voice", "2.5"
	}
	at := s.worktime(r)
	s.say(fromIdentity, "charged:"+id, "message.charged", h.account.id, at, fields{"message_id": id, "user_id": to.id, "channel": channel, "credits": credits})
	if r.IntN(25) == 0 { // the carrier could not deliver it
		s.say(fromIdentity, "returned:"+id, "message.credit_returned", h.account.id, at.Add(20*time.Hour), fields{"message_id": id, "credits": credits})
	}
}
