package usage

// An internal test, because the JSON Schemas are generated from the table that the parser reads.

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	json "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "rewrite schema/event from the table of event types")

var schemaDir = filepath.Join("..", "..", "schema", "event")

const schemaBase = "https://github.com/countinghouse/countinghouse/schema/event/"

func TestSchemasMatchTheTable(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(schemaDir, "*.json"))
	if err != nil || !*update && len(files) != len(shapes)+1 {
		t.Errorf("%d schemas, want one of each of %d types and the envelope: %v", len(files), len(shapes), err)
	}
	for i := range shapes {
		want := typeSchema(t, &shapes[i])
		file := filepath.Join(schemaDir, shapes[i].name+".json")
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs from the table (%v): go test ./internal/usage -run TestSchemas -update", file, err)
		}
	}
}

// Every example has the verdict that its folder and name promise, from the schema and from the parser.
// Names: valid/TYPE--STORY.json, invalid/TYPE--CODE--STORY.json. A story that starts with "rule-" breaks
// a rule that JSON Schema cannot express, so only the parser refuses it.
func TestExamples(t *testing.T) {
	schemas := compile(t)
	seen := map[string]bool{}
	for _, folder := range []string{"valid", "invalid"} {
		files, err := filepath.Glob(filepath.Join(schemaDir, "examples", folder, "*.json"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s examples: %v", folder, err)
		}
		for _, file := range files {
			name := strings.Split(strings.TrimSuffix(filepath.Base(file), ".json"), "--")
			if len(name) != map[string]int{"valid": 2, "invalid": 3}[folder] || schemas[name[0]] == nil {
				t.Errorf("%s: a name says TYPE--STORY or TYPE--CODE--STORY", file)
				continue
			}
			seen[folder+" "+name[0]] = true
			doc, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			checkExample(t, file, doc, schemas[name[0]], name[1:])
		}
	}
	for i := range shapes {
		for _, folder := range []string{"valid", "invalid"} {
			if !seen[folder+" "+shapes[i].name] {
				t.Errorf("%s has no %s example", shapes[i].name, folder)
			}
		}
	}
}

func checkExample(t *testing.T, file string, doc []byte, schema *jsonschema.Schema, name []string) {
	t.Helper()
	e, faults := NewParser(Limits{}).Event(doc)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
	if err != nil {
		t.Errorf("%s: %v", file, err)
		return
	}
	verdict := schema.Validate(value)
	if len(name) == 1 {
		if len(faults) > 0 || verdict != nil {
			t.Errorf("%s: valid, but the parser says %v and the schema %v", file, faults, verdict)
		}
		again, faults := NewParser(Limits{}).Event(AppendJSON(nil, &e))
		if len(faults) > 0 || ContentHash(&again) != ContentHash(&e) {
			t.Errorf("%s: written again it is %s %v", file, AppendJSON(nil, &e), faults)
		}
		return
	}
	if !slices.ContainsFunc(faults, func(f Fault) bool { return f.Code == name[0] }) {
		t.Errorf("%s: the parser says %v, want %s", file, faults, name[0])
	}
	if onlyParser := strings.HasPrefix(name[1], "rule-"); onlyParser != (verdict == nil) {
		t.Errorf("%s: the schema says %v", file, verdict)
	}
}

func compile(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	files, err := filepath.Glob(filepath.Join(schemaDir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if err := c.AddResource(schemaBase+filepath.Base(file), value); err != nil {
			t.Fatal(err)
		}
	}
	all := map[string]*jsonschema.Schema{}
	for i := range shapes {
		s, err := c.Compile(schemaBase + shapes[i].name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		all[shapes[i].name] = s
	}
	return all
}

func typeSchema(t *testing.T, s *shape) []byte {
	t.Helper()
	properties := map[string]any{"type": map[string]any{"enum": []string{s.name, s.name + versionOne}}}
	required := []string{"type"}
	data := objectSchema(s.fields)
	if data["required"] == nil {
		data["type"] = []string{"object", "null"}
	} else {
		required = append(required, "data")
	}
	properties["data"] = data
	if s.account {
		properties["subject"] = map[string]any{"type": "string"}
		required = append(required, "subject")
	}
	b, err := json.Marshal(map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": schemaBase + s.name + ".json",
		"title": s.name, "description": s.doc, "allOf": []any{map[string]any{"$ref": "cloudevent.json"}},
		"properties": properties, "required": required,
	}, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

func objectSchema(fields []field) map[string]any {
	properties := map[string]any{}
	var required []string
	for i := range fields {
		properties[fields[i].name] = fieldSchema(&fields[i])
		if fields[i].required {
			required = append(required, fields[i].name)
		}
	}
	s := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if required != nil {
		s["required"] = required
	}
	return s
}

func fieldSchema(f *field) map[string]any {
	ref := func(name string) map[string]any { return map[string]any{"$ref": "cloudevent.json#/$defs/" + name} }
	array := func(items any) map[string]any { return map[string]any{"type": "array", "items": items} }
	switch f.kind {
	case kindText:
		s := map[string]any{"type": "string"}
		switch {
		case f.enum != nil && f.required:
			s["enum"] = f.enum
		case f.enum != nil:
			s["enum"] = append(slices.Clone(f.enum), "") // "" means absent
		case f.required:
			s["minLength"] = 1
		}
		return s
	case kindDecimal:
		if f.nonNegative {
			return ref("unsigned")
		}
		return ref("decimal")
	case kindInteger:
		return ref("whole")
	case kindBool:
		return map[string]any{"type": "boolean"}
	case kindInstant:
		return ref("instant")
	case kindCode:
		return ref("code")
	case kindObject:
		return objectSchema(f.fields)
	case kindList:
		s := array(objectSchema(f.fields))
		if f.required {
			s["minItems"] = 1
		}
		return s
	case kindTexts:
		return array(map[string]any{"type": "string"})
	case kindDimensions:
		limits := DefaultLimits()
		return map[string]any{
			"type": "object", "maxProperties": limits.Dimensions, "propertyNames": map[string]any{"minLength": 1, "maxLength": limits.DimensionBytes},
			"additionalProperties": map[string]any{"type": "string", "maxLength": limits.DimensionBytes},
		}
	case kindFreeList:
		return array(map[string]any{"type": "object"})
	default:
		return map[string]any{"type": "object"}
	}
}
