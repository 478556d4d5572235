package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"strings"
	"time"
)

// What browsers load beside the pages. Folder uplot is uPlot 1.6.32 (https://github.com/leeoniya/uPlot, MIT, its licence
// beside it) as npm has it: it draws charts where scripts run, and a test holds its checksums.
//
//go:embed static
var assets embed.FS

// asset is a file as it is sent: packed once, when the site is built.
type asset struct{ plain, packed []byte }

// assetsPacked are all assets by their path. They are embedded: reading them cannot fail.
func assetsPacked() map[string]asset {
	all := map[string]asset{}
	_ = fs.WalkDir(assets, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		plain, err := assets.ReadFile(name)
		var packed bytes.Buffer
		w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // the level is one
		_, _ = w.Write(plain)                                      // into memory
		_ = w.Close()
		all["/"+name] = asset{plain, packed.Bytes()}
		return err
	})
	return all
}

// serveAsset sends an asset, packed to those who take that. Browsers keep one that was asked for by its edition until
// it changes.
func (s *Site) serveAsset(w http.ResponseWriter, r *http.Request) {
	one, ok := s.assets[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	if r.URL.Query().Get("v") == s.edition {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "Accept-Encoding")
	content := one.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		content = one.packed
	}
	http.ServeContent(w, r, r.URL.Path, time.Time{}, bytes.NewReader(content))
}

// edition names the content of the assets: their addresses carry it, so that a browser keeps them until they change.
func edition() string {
	sum := sha256.New()
	_ = fs.WalkDir(assets, ".", func(path string, entry fs.DirEntry, err error) error { // embedded: cannot fail
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := assets.ReadFile(path)
		_, _ = sum.Write(content)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)[:6])
}
