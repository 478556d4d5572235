// Package config turns flags, environment, a YAML file and defaults into a service's Config struct.
//
// Guarantee: flags > environment > file > defaults, field by field. An unknown key anywhere is a fault,
// not a default silently kept; every fault is reported at once with the place it came from; no fault,
// log line or redacted print contains a secret. A bad configuration exits 78.
//
// A field is declared once, in the struct:
//
//	Listen string        `koanf:"listen" help:"address to listen on"`
//	Key    string        `koanf:"key" secret:"true" help:"…"`
//	Body   int           `koanf:"body_bytes" unit:"bytes" help:"…"`   // takes 5MiB
//	NATS   eventlog.Config `koanf:"nats"`                             // a section
//
// From it follow the flag --nats-creds, the variable COUNTINGHOUSE_INGEST__NATS__CREDS and the YAML key
// ingest.nats.creds. A section may also stand at the top level, shared by all services (nats.creds,
// COUNTINGHOUSE_NATS__CREDS); under the service's own name it wins. A secret may be given as a file:
// COUNTINGHOUSE_NATS__PASSWORD_FILE. The url or dsn of a section answers to the section's name: --nats.
package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode"
)

// Field is one setting, as the generated reference shows it.
type Field struct {
	Key     string // path inside the service's section: nats.creds
	Flag    string // nats-creds
	Type    string // string, bool, int, size, number, duration, list
	Default string // redacted
	Help    string
	Secret  bool

	alias string // second flag, for url and dsn of a section
	value reflect.Value
}

// Env is the variable that sets the field of a service: COUNTINGHOUSE_INGEST__NATS__CREDS.
func (f Field) Env(section string) string {
	return envPrefix + envName(section+"."+f.Key)
}

const envPrefix = "COUNTINGHOUSE_"

func envName(key string) string {
	return strings.ToUpper(strings.ReplaceAll(key, ".", "__"))
}

// Reference lists the fields of cfg, a struct or a pointer to one, in the order of declaration.
// Values are those cfg holds, so a Config full of defaults gives the reference of the defaults.
func Reference(cfg any) []Field {
	v := reflect.ValueOf(cfg)
	if v.Kind() != reflect.Pointer { // an addressable copy
		p := reflect.New(v.Type())
		p.Elem().Set(v)
		v = p
	}
	return fields(v.Elem(), "")
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func fields(v reflect.Value, prefix string) []Field {
	var out []Field
	t := v.Type()
	for i := range t.NumField() {
		sf, fv := t.Field(i), v.Field(i)
		name, _, _ := strings.Cut(sf.Tag.Get("koanf"), ",")
		if name == "-" || !sf.IsExported() {
			continue
		}
		if sf.Anonymous && name == "" && sf.Type.Kind() == reflect.Struct {
			out = append(out, fields(fv, prefix)...)
			continue
		}
		if name == "" {
			name = snake(sf.Name)
		}
		key := prefix + name
		kind := kindOf(sf)
		if kind == "section" {
			out = append(out, fields(fv, key+".")...)
			continue
		}
		if kind == "" {
			continue // not a setting: a hook, a clock, a registry that only code can set
		}
		f := Field{
			Key: key, Type: kind, Help: sf.Tag.Get("help"), value: fv,
			Flag:   strings.NewReplacer(".", "-", "_", "-").Replace(key),
			Secret: sf.Tag.Get("secret") != "",
		}
		if section, ok := strings.CutSuffix(prefix, "."); ok && (name == "url" || name == "dsn") {
			f.alias = f.Flag
			f.Flag = strings.NewReplacer(".", "-", "_", "-").Replace(section)
		}
		f.Default = f.text(true)
		out = append(out, f)
	}
	return out
}

func kindOf(sf reflect.StructField) string {
	t := sf.Type
	switch {
	case t == durationType:
		return "duration"
	case t.Kind() != reflect.Interface && reflect.PointerTo(t).Implements(textType):
		return "string"
	}
	switch t.Kind() {
	case reflect.Struct:
		return "section"
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if sf.Tag.Get("unit") == "bytes" {
			return "size"
		}
		return "int"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.String {
			return "list"
		}
	}
	return ""
}

// snake turns NATSUrl into nats_url, for fields without a tag.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 &&
			(!unicode.IsUpper(runes[i-1]) || (i+1 < len(runes) && unicode.IsLower(runes[i+1]))) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// Fault is one thing wrong with a configuration.
type Fault struct {
	Where  string // flag --x, COUNTINGHOUSE_X, file.yaml:12 key
	Detail string
}

// Faults is every thing wrong with a configuration. A caller shows them all and exits 78.
type Faults struct{ List []Fault }

func (f *Faults) Error() string {
	lines := make([]string, len(f.List))
	for i, x := range f.List {
		lines[i] = x.Where + ": " + x.Detail
	}
	return "bad configuration: " + strings.Join(lines, "; ")
}

func (f *Faults) add(where, format string, args ...any) {
	f.List = append(f.List, Fault{where, fmt.Sprintf(format, args...)})
}
