package reporter

import (
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/usage"
)

const (
	limitMax     = 1000 // rows of a page
	limitDefault = 1000
	rowsMax      = 100_000 // rows of an answer without pages: 30 MB of JSON
)

func parseQuery(raw string) (url.Values, error) { return url.ParseQuery(raw) }

func sortedNames(query url.Values) []string { return sortedKeys(query) }

func sortedKeys[M ~map[string]V, V any](m M) []string { return slices.Sorted(maps.Keys(m)) }

func problemType() reflect.Type { return reflect.TypeFor[problem.Problem]() }

// queryParam describes a parameter that is read from the query itself.
func queryParam(name, doc string) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: doc, Schema: &huma.Schema{Type: huma.TypeString}}
}

// instantOf reads an RFC 3339 parameter; fallback stands where it is absent.
func instantOf(name, value string, fallback int64) (int64, error) {
	if value == "" {
		return fallback, nil
	}
	at, err := usage.ParseInstant(value)
	if err != nil || !at.Storable() {
		return 0, wrong(name, "want an RFC 3339 time with offset, such as 2026-03-01T00:00:00Z")
	}
	return at.Millis(), nil
}

// asOf reads the parameter as_of; without one everything counted is in the answer.
func asOf(value string) (int64, error) { return instantOf("as_of", value, directory.Latest) }

func monthOf(name, value string) (usage.Month, error) {
	m, err := usage.ParseMonth(value)
	if err != nil {
		return m, wrong(name, "want a month as YYYY-MM")
	}
	return m, nil
}

func limitOf(value string, fallback int) (int, error) {
	if value == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > limitMax {
		return 0, wrong("limit", fmt.Sprintf("want a number from 1 to %d", limitMax))
	}
	return n, nil
}

// stateOf reads which state of the log is asked for: that of an instant, or a month's version, from 1, of which
// "current" is the one there is without either. Answers say version 0 where they were computed; asking for 0 would
// look like asking for that. Both at once would be two questions.
func stateOf(instant, value string) (at int64, version int, err error) {
	if at, err = asOf(instant); err != nil || value == "" || value == "current" {
		return at, 0, err
	}
	version, err = strconv.Atoi(value)
	switch {
	case err != nil || version < 1 || strconv.Itoa(version) != value:
		return 0, 0, wrong("version", "want the number of a version of the month, from 1, or current")
	case instant != "":
		return 0, 0, wrong("version", "give either as_of or version")
	}
	return at, version, nil
}

func parseUint(value string, bits int) (uint64, error) { return strconv.ParseUint(value, 10, bits) }
