//go:build screenshots

package browser_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

var notName = regexp.MustCompile(`[^a-z0-9]+`)

// TestScreenshots pictures every page in light, in dark and on a phone, into the folder screenshots of the tree:
// `make screenshots`. They are to be looked at; nothing compares them.
func TestScreenshots(t *testing.T) {
	dir := filepath.Join("..", "..", "screenshots")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	pages, _ := atlas(t, somethingToSee(t))
	b := open(t)
	n := 0
	for _, look := range []struct {
		name, colours string
		width, height int64
	}{{"light", "light", 1440, 900}, {"dark", "dark", 1440, 900}, {"phone", "light", 390, 844}} {
		b.colours(look.colours)
		b.size(look.width, look.height)
		for _, pattern := range slices.Sorted(maps.Keys(pages)) {
			if pages[pattern].file {
				continue
			}
			b.visit(pages[pattern].path)
			picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
			if err != nil {
				t.Fatal(err)
			}
			name := strings.Trim(notName.ReplaceAllString(strings.ToLower(strings.TrimPrefix(pattern, "GET ")), "-"), "-")
			if pattern == "GET /{$}" {
				name = "home"
			}
			if err := os.WriteFile(filepath.Join(dir, name+"-"+look.name+".png"), picture, 0o600); err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	t.Logf("%d pictures in ./screenshots", n)
}

// colours are those that the system asks for: light or dark.
func (b *tab) colours(scheme string) {
	b.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	if err != nil {
		b.Fatal(err)
	}
}
