package arch_test

import (
	"bytes"
	"go/format"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/a-h/templ"
	"github.com/a-h/templ/generator"
	"github.com/a-h/templ/parser/v2"
)

// TestPagesAreGenerated finds Go of pages that is not what their templates make: `make generate` rewrites it.
func TestPagesAreGenerated(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"internal/reporter/web", "internal/reporter/signin"} {
		sources, err := filepath.Glob(filepath.Join("..", "..", dir, "*.templ"))
		if err != nil || len(sources) == 0 {
			t.Fatalf("%s: %d templates, %v", dir, len(sources), err)
		}
		for _, source := range sources {
			file, err := parser.Parse(source)
			if err != nil {
				t.Fatal(err)
			}
			var made bytes.Buffer
			if _, err := generator.Generate(file, &made, generator.WithVersion(templ.Version()), generator.WithFileName(filepath.Base(source))); err != nil {
				t.Fatal(err)
			}
			want, err := format.Source(made.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			have, err := os.ReadFile(strings.TrimSuffix(source, ".templ") + "_templ.go")
			if err != nil || !bytes.Equal(have, want) {
				t.Errorf("%s: its Go is of another template (make generate): %v", source, err)
			}
		}
	}
}
