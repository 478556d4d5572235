package reference

import (
	"math/big"
	"strings"
)

// item is the quantity of a line item at an instant; ok is false if nobody has mapped it by then.
func (h *History) item(activation string, at int64) (quantity *big.Rat, ok bool) {
	obsolete := false
	for _, e := range h.of("lineitem.mapped", "lineitem.changed") {
		if e.At > at || e.text("activation_id") != activation || !ok && e.Type == "lineitem.changed" {
			continue
		}
		state := e.text("state")
		if obsolete && state != "" && state != "OBSOLETE" {
			continue // once obsolete, for ever
		}
		obsolete = obsolete || state == "OBSOLETE"
		if e.text("quantity") != "" {
			quantity = e.number("quantity")
		}
		ok = true
	}
	return quantity, ok
}

// instance is the account of an instance, "" if no creation names one; ok is false if nobody has spoken of it by then.
func (h *History) instance(id string, at int64) (account string, ok bool) {
	for _, e := range h.of("instance.created", "lineitem.mapped") {
		if e.text("instance_id") == id {
			ok = ok || e.At <= at
			if e.Type == "instance.created" && account == "" {
				account = e.Account
			}
		}
	}
	return account, ok
}

// Elastic is elastic-usage of everything; META_DATA is left out, and so is METER_COST_LIST.
func (h *History) Elastic() []string {
	used := map[string]*big.Rat{}
	var rows []string
	for _, e := range h.of("elastic.operation") {
		account, ok := h.instance(e.text("instance_id"), e.At)
		if account == "" {
			account = e.Account
		}
		if !ok || h.before(e.At + 1).accounts[account] == nil {
			continue
		}
		consumer, _ := e.Data["consumer"].(map[string]any)
		for _, line := range e.objects("lines") {
			activation, mapped, total, quantity := "", "", "", new(big.Rat)
			if textOf(line, "response") == "101" {
				activation, quantity = textOf(line, "activation_id"), numberOf(line, "meter_quantity")
				count, ok := h.item(activation, e.At)
				if !ok {
					continue
				}
				if used[activation] == nil {
					used[activation] = new(big.Rat)
				}
				used[activation].Add(used[activation], quantity)
				mapped, total = shortest(count), shortest(used[activation])
			}
			cost := ""
			if textOf(line, "meter_cost") != "" {
				cost = shortest(numberOf(line, "meter_cost"))
			}
			rows = append(rows, strings.Join([]string{
				e.Correlation, h.Tenant, stamp(e.At), stamp(max(e.Recorded, e.At)), textOf(consumer, "value"), textOf(consumer, "type"), account,
				e.text("instance_id"), activation, mapped, total, textOf(line, "item"), textOf(line, "item_version"), shortest(numberOf(line, "item_quantity")),
				e.text("session_id"), e.text("session_state"), textOf(line, "response"), "elastic", "elastic token", cost, shortest(quantity),
			}, ","))
		}
	}
	return rows
}
