package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/schema"
)

// shape is the part of a JSON Schema that this page shows.
type shape struct {
	Description string           `json:"description"`
	Type        any              `json:"type"`
	Ref         string           `json:"$ref"`
	Enum        []string         `json:"enum"`
	Required    []string         `json:"required"`
	Properties  map[string]shape `json:"properties"`
	Items       *shape           `json:"items"`
	Values      json.RawMessage  `json:"additionalProperties"` // false, or what the values of a map are
}

// events lists every type with the members of its data.
func events(w *strings.Builder) error {
	for _, name := range usage.Types() {
		text, err := schema.Event.ReadFile("event/" + name + ".json")
		if err != nil {
			return err
		}
		// The envelope's `type` is an enumeration, or one constant, that nobody needs here.
		var s struct {
			Description string   `json:"description"`
			Required    []string `json:"required"`
			Properties  struct {
				Data shape `json:"data"`
			} `json:"properties"`
		}
		if err := json.Unmarshal(text, &s); err != nil {
			return fmt.Errorf("schema of %s: %w", name, err)
		}
		fmt.Fprintf(w, "## `%s`\n\n%s", name, s.Description)
		if slices.Contains(s.Required, "subject") {
			w.WriteString(" `subject`, the account, is required.")
		}
		w.WriteString("\n\n")
		header(w, "in `data`", "kind", "")
		members(w, name, "", s.Properties.Data)
		w.WriteString("\n")
	}
	return nil
}

// members writes a row for each member, required ones first, inner ones below their object.
func members(w *strings.Builder, event, prefix string, s shape) {
	names, needed := slices.Sorted(maps.Keys(s.Properties)), usage.NeededMembers()
	slices.SortStableFunc(names, func(a, b string) int {
		return rank(s, a) - rank(s, b)
	})
	for _, name := range names {
		if prefix == "" && (name == "actor" || name == "source_seq") {
			continue // every type has them
		}
		p := s.Properties[name]
		note := ""
		if rank(s, name) == 0 {
			note = "required"
		} else if i := slices.IndexFunc(needed, func(n usage.Needed) bool { return n.Type == event && n.Member == prefix+name }); i >= 0 {
			note = needed[i].When
		}
		row(w, code(prefix+name), kind(p), note)
		switch {
		case p.Items != nil:
			members(w, event, prefix+name+"[].", *p.Items)
		case len(p.Properties) > 0:
			members(w, event, prefix+name+".", p)
		}
	}
}

func rank(s shape, name string) int {
	if slices.Contains(s.Required, name) {
		return 0
	}
	return 1
}

// kind is a word for what a member holds.
func kind(s shape) string {
	switch {
	case s.Ref != "":
		return path.Base(s.Ref)
	case len(s.Enum) > 0:
		var values []string
		for _, v := range s.Enum {
			if v != "" {
				values = append(values, code(v))
			}
		}
		return strings.Join(values, ", ")
	case s.Items != nil && len(s.Items.Properties) == 0:
		return "list of " + kind(*s.Items)
	case s.Items != nil:
		return "list"
	case s.Type == "object" && strings.HasPrefix(string(s.Values), "{"):
		return "object of strings"
	case s.Type == "object" && len(s.Properties) == 0:
		return "object, free"
	}
	return fmt.Sprint(s.Type)
}
