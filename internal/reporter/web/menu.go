package web

import (
	"strings"

	"github.com/countinghouse/countinghouse/internal/access"
)

// Headings of the menu, in their order.
const (
	menuUsage   = "Usage"
	menuReports = "Reports"
	menuFiles   = "Files"
	menuProof   = "Close and proof"
	menuAdmin   = "Administration"
)

type menuGroup struct {
	heading string
	entries []menuEntry
}

type menuEntry struct {
	title, path string
	current     bool
}

// menuOf is what the viewer may go to: by heading, and within it in the order of the table of pages. The entry of
// the page at path is current, as is the one above it where the page itself is not in the menu.
func menuOf(viewer *access.Viewer, path string) []menuGroup {
	var groups []menuGroup
	var current *menuEntry
	all := pages()
	for _, heading := range []string{menuUsage, menuReports, menuProof, menuFiles, menuAdmin} {
		g := menuGroup{heading: heading}
		for _, p := range all {
			if p.menu == heading && p.open(viewer) {
				g.entries = append(g.entries, menuEntry{title: p.title, path: p.path()})
			}
		}
		if len(g.entries) > 0 {
			groups = append(groups, g)
		}
	}
	for i := range groups {
		for j := range groups[i].entries {
			e := &groups[i].entries[j]
			under := path == e.path || e.path != "/" && strings.HasPrefix(path, e.path+"/")
			if under && (current == nil || len(e.path) > len(current.path)) {
				current = e
			}
		}
	}
	if current != nil {
		current.current = true
	}
	return groups
}

// path is where the page is, without what its pattern says about methods.
func (p page) path() string {
	_, path, _ := strings.Cut(p.pattern, " ")
	return strings.TrimSuffix(path, "{$}")
}

// file reports whether it answers a file, which takes as long as its statements may.
func (p page) file() bool { return strings.HasSuffix(p.pattern, "/file") }

// open reports whether the viewer may open the page.
func (p page) open(viewer *access.Viewer) bool { return viewer.May(p.entity, p.verb) }
