package config

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// set parses the given text into the field. The error never repeats the value of a secret.
func (f Field) set(values []string) error {
	text := strings.Join(values, ",")
	err := f.parse(values)
	if err == nil {
		return nil
	}
	if f.Secret {
		return fmt.Errorf("the value given is no %s", f.Type)
	}
	return fmt.Errorf("%q: %w", text, err)
}

func (f Field) parse(values []string) error {
	v := f.value
	if f.Type == "list" {
		list := reflect.MakeSlice(v.Type(), 0, len(values))
		for _, s := range values {
			for part := range strings.SplitSeq(s, ",") {
				if part = strings.TrimSpace(part); part != "" {
					list = reflect.Append(list, reflect.ValueOf(part).Convert(v.Type().Elem()))
				}
			}
		}
		v.Set(list)
		return nil
	}
	if len(values) != 1 {
		return errors.New("takes one value, not a list")
	}
	text := values[0]
	switch f.Type {
	case "string":
		if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
			return u.UnmarshalText([]byte(text))
		}
		v.SetString(text)
	case "bool":
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("want true or false")
		}
		v.SetBool(b)
	case "duration":
		d, err := time.ParseDuration(text)
		if err != nil {
			return errors.New("want a duration such as 500ms, 30s, 2h")
		}
		v.SetInt(int64(d))
	case "number":
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return errors.New("want a number")
		}
		v.SetFloat(n)
	case "size":
		n, err := parseSize(text)
		if err != nil {
			return err
		}
		return setInt(v, n)
	case "int":
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return errors.New("want a whole number")
		}
		return setInt(v, n)
	}
	return nil
}

func setInt(v reflect.Value, n int64) error {
	if v.CanInt() {
		if v.OverflowInt(n) {
			return errors.New("too large")
		}
		v.SetInt(n)
		return nil
	}
	if n < 0 || v.OverflowUint(uint64(n)) {
		return errors.New("out of range")
	}
	v.SetUint(uint64(n))
	return nil
}

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1},
}

func parseSize(text string) (int64, error) {
	want := errors.New("want a size such as 4096, 64KiB, 5MiB, 20GB")
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil {
			if u.suffix == "" {
				return 0, want
			}
			continue
		}
		if n > math.MaxInt64/u.bytes || n < math.MinInt64/u.bytes {
			return 0, errors.New("too large")
		}
		return n * u.bytes, nil
	}
	return 0, want
}

// formatDuration leaves out the zero units at the end: 840h, not 840h0m0s.
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// formatSize uses the largest binary unit that divides n.
func formatSize(n int64) string {
	for _, u := range []int{3, 2, 1, 0} {
		if unit := sizeUnits[u]; n != 0 && n%unit.bytes == 0 {
			return strconv.FormatInt(n/unit.bytes, 10) + unit.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

const redaction = "***"

// text is the field's value as set understands it.
func (f Field) text(redacted bool) string {
	v := f.value
	if redacted && f.Secret {
		if v.IsZero() {
			return ""
		}
		return redaction
	}
	switch f.Type {
	case "list":
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = v.Index(i).String()
			if redacted {
				parts[i] = redactURL(parts[i])
			}
		}
		return strings.Join(parts, ",")
	case "duration":
		return formatDuration(time.Duration(v.Int()))
	case "size":
		if v.CanInt() {
			return formatSize(v.Int())
		}
		return formatSize(int64(v.Uint()))
	case "string":
		text := fmt.Sprint(v.Interface())
		if redacted {
			text = redactURL(text)
		}
		return text
	}
	return fmt.Sprint(v.Interface())
}

// redactURL hides the password of a URL (a ClickHouse DSN, a NATS URL with a user); a comma-separated
// list of URLs is taken apart.
func redactURL(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	parts := strings.Split(text, ",")
	for i, part := range parts {
		u, err := url.Parse(part)
		if err != nil {
			parts[i] = redaction // it may hold a password we cannot find
			continue
		}
		if u.User == nil && !u.Query().Has("password") {
			continue
		}
		if _, has := u.User.Password(); has {
			u.User = url.UserPassword(u.User.Username(), redaction)
		} else if u.User != nil && u.Scheme == "nats" || u.Scheme == "tls" {
			u.User = url.User(redaction) // nats://token@host
		}
		if q := u.Query(); q.Has("password") {
			q.Set("password", redaction)
			u.RawQuery = q.Encode()
		}
		parts[i] = strings.ReplaceAll(u.String(), "%2A%2A%2A", redaction)
	}
	return strings.Join(parts, ",")
}

// Print writes cfg as the YAML a --config file takes, under the given section's name.
func Print(w io.Writer, section string, cfg any, redacted bool) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range Reference(cfg) {
		node := child(root, section)
		path := strings.Split(f.Key, ".")
		for _, p := range path[:len(path)-1] {
			node = child(node, p)
		}
		value := &yaml.Node{Kind: yaml.ScalarNode}
		if f.Type == "list" {
			value = &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
			for s := range strings.SplitSeq(f.text(redacted), ",") {
				if s != "" {
					value.Content = append(value.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: s})
				}
			}
		} else {
			value.Value = f.text(redacted)
			if f.Type == "string" {
				value.Style = yaml.DoubleQuotedStyle
			}
		}
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: path[len(path)-1], HeadComment: f.Help}
		node.Content = append(node.Content, key, value)
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	return enc.Close()
}

func child(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	c := &yaml.Node{Kind: yaml.MappingNode}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, c)
	return c
}
