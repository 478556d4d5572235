package web

import (
	"regexp"
	"strings"

	"github.com/countinghouse/countinghouse/internal/directory"
)

// meterID is a meter's id as programs write it; anything else is a name already, or shall not pass for one.
var meterID = regexp.MustCompile(`^[a-z][a-z0-9]*([_.-][a-z0-9]+)*$`)

// meterName makes a name for people of a meter's id: sms_credits is SMS credits.
func meterName(id string) string {
	if !meterID.MatchString(id) {
		return id
	}
	words := strings.FieldsFunc(id, func(c rune) bool { return strings.ContainsRune("_.-", c) })
	for i, word := range words {
		switch word {
		case "ai", "api", "cpu", "gpu", "id", "ip", "mfa", "otp", "sms", "sso", "ssl", "url", "vm", "vpn":
			words[i] = strings.ToUpper(word)
		case "gb", "kb", "mb", "tb":
			words[i] = strings.ToUpper(word)
		case "gib", "kib", "mib", "tib":
			words[i] = strings.ToUpper(word[:1]) + "iB"
		}
	}
	return titled(strings.Join(words, " "))
}

// meterTitle is a meter's name for people: what its definition calls the thing that is counted, and of which plan, for
// several meters may count the same.
func meterTitle(m directory.Meter) string {
	if m.Element == "" || m.Element == m.Name {
		return meterName(m.Name)
	}
	if m.Plan != "" && !strings.Contains(m.Element, m.Plan) {
		return titled(m.Element) + ", " + m.Plan
	}
	return titled(m.Element)
}

// meterChoice is the same where one of several is chosen: with the id that events and files have.
func meterChoice(m directory.Meter) string {
	if title := meterTitle(m); title != m.Name {
		return title + " (" + m.Name + ")"
	}
	return m.Name
}

// metered is a cell with a meter's name; its id is shown on hovering, and to those who hear the page.
func metered(id string) cell {
	if name := meterName(id); name != id {
		return cell{text: name, hint: id}
	}
	return txt(id)
}
