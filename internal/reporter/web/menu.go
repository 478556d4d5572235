package web

import (
	"strings"

	"github.com/countinghouse/countinghouse/internal/access"
)

type menuEntry struct{ heading, title, path string }

// menuOf is what the viewer may go to, in the order of the table of pages.
func menuOf(viewer *access.Viewer) []menuEntry {
	var entries []menuEntry
	for _, p := range pages() {
		if p.menu != "" && viewer.May(p.entity, p.verb) {
			_, path, _ := strings.Cut(p.pattern, " ")
			entries = append(entries, menuEntry{p.menu, p.title, strings.TrimSuffix(path, "{$}")})
		}
	}
	return entries
}
