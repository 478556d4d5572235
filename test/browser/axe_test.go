package browser_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/chromedp/chromedp"
)

// axe-core finds what keeps people with a disability out (https://github.com/dequelabs/axe-core, MPL-2.0). It is
// fetched once with npm into the user's cache, verified by the checksum that npm's registry publishes.
const (
	axeSpec      = "axe-core@4.14.1"
	axeIntegrity = "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
	axeMax       = 8 << 20 // bytes unpacked
)

// fetchAxe is the text of axe.min.js.
func fetchAxe(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "countinghouse", "axe")
	kept := filepath.Join(dir, strings.ReplaceAll(axeSpec, "@", "-")+".tgz")
	archive, err := os.ReadFile(kept)
	if err == nil && axeSum(archive) == axeIntegrity {
		return unpackAxe(archive)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errors.New("npm is not on PATH (it fetches axe-core, once): apt-get install npm, or make deps")
	}
	cmd := exec.CommandContext(ctx, npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", tmp, axeSpec)
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm pack %s: %w: %s", axeSpec, err, bytes.TrimSpace(out))
	}
	found, err := filepath.Glob(filepath.Join(tmp, "*.tgz"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("npm pack %s left %d archives, want 1", axeSpec, len(found))
	}
	if archive, err = os.ReadFile(found[0]); err != nil {
		return "", err
	}
	if sum := axeSum(archive); sum != axeIntegrity {
		return "", fmt.Errorf("%s has checksum %s, want %s", axeSpec, sum, axeIntegrity)
	}
	if err := os.Rename(found[0], kept); err != nil {
		return "", err
	}
	return unpackAxe(archive)
}

func axeSum(archive []byte) string {
	sum := sha512.Sum512(archive)
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

func unpackAxe(archive []byte) (string, error) {
	plain, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return "", err
	}
	files := tar.NewReader(plain)
	for {
		head, err := files.Next()
		if err != nil {
			return "", fmt.Errorf("find axe.min.js: %w", err)
		}
		if head.Name == "package/axe.min.js" {
			text, err := io.ReadAll(io.LimitReader(files, axeMax))
			return string(text), err
		}
	}
}

// accessible fails the test where axe finds something serious or critical on the page that is shown.
func (b *tab) accessible(where string) {
	b.Helper()
	eval[bool](b, shared.axe+";true")
	const look = `axe.run(document, {resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations
		.filter(v => v.impact === "serious" || v.impact === "critical")
		.map(v => ({id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.slice(0, 3).map(n => n.html.slice(0, 200) + " " + (n.any[0] || n.all[0] || n.none[0] || {message: ""}).message)}))))`
	ctx, cancel := b.step()
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](look, chromedp.EvalAwaitPromise))
	if err != nil {
		b.Fatalf("%s: axe: %v", where, err)
	}
	var found []struct {
		ID, Impact, Help string
		Nodes            []string
	}
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		b.Fatal(err)
	}
	for _, f := range found {
		b.Errorf("%s: %s (%s): %s\n\t%s", where, f.ID, f.Impact, f.Help, strings.Join(f.Nodes, "\n\t"))
	}
}
