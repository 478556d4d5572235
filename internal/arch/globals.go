package arch

import (
	"go/ast"
	"go/token"
	"strings"
)

// globals: what a package keeps outside its values is shared by every test and every caller in the
// process. A package-level var is accepted where it is a constant in all but name: it has a value from
// the start, is no lock, channel or counter, and nothing in the package assigns to it or its elements.
func (c *checker) globals(files []*file) {
	written := writes(files)
	for _, f := range files {
		if f.test || ast.IsGenerated(f.syntax) {
			continue
		}
		for _, decl := range f.syntax.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.VAR {
				continue
			}
			for _, spec := range gen.Specs {
				c.global(f, gen, spec.(*ast.ValueSpec), written)
			}
		}
	}
}

func (c *checker) global(f *file, gen *ast.GenDecl, spec *ast.ValueSpec, written map[string]bool) {
	for _, name := range spec.Names {
		switch {
		case name.Name == "_" || embedded(gen) || embeddedSpec(spec):
		case len(spec.Values) == 0:
			c.report(f, name.Pos(), "global", "%s starts empty, so something fills it later: pass it in", name.Name)
		case stateful(spec):
			c.report(f, name.Pos(), "global", "%s is shared mutable state: make it a field of what uses it", name.Name)
		case written[name.Name]:
			c.report(f, name.Pos(), "global", "%s is assigned to after its declaration: make it a field of what uses it", name.Name)
		}
	}
}

func embedded(gen *ast.GenDecl) bool { return hasEmbed(gen.Doc) }

func embeddedSpec(spec *ast.ValueSpec) bool { return hasEmbed(spec.Doc) }

func hasEmbed(doc *ast.CommentGroup) bool {
	if doc == nil {
		return false
	}
	for _, comment := range doc.List {
		if strings.HasPrefix(comment.Text, "//go:embed ") {
			return true
		}
	}
	return false
}

// stateful reports a declaration that can only be meant to change: a lock, an atomic, a channel.
func stateful(spec *ast.ValueSpec) bool {
	found := false
	look := func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit: // its inside runs later
			return false
		case *ast.ChanType:
			found = true
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && (x.Name == "sync" || x.Name == "atomic") && n.Sel.Name != "OnceValue" && n.Sel.Name != "OnceValues" {
				found = true
			}
		case *ast.CallExpr:
			if fn, ok := n.Fun.(*ast.Ident); ok && fn.Name == "make" {
				found = true
			}
		}
		return !found
	}
	if spec.Type != nil {
		ast.Inspect(spec.Type, look)
	}
	for _, value := range spec.Values {
		ast.Inspect(value, look)
	}
	return found
}

// writes are the package-level names that the product code of a package assigns to, counts up, takes
// the address of, or stores an element in. A local variable of the same name is not one of them: the
// parser resolves those, and leaves package-level names of other files unresolved.
func writes(files []*file) map[string]bool {
	written := map[string]bool{}
	for _, f := range files {
		if f.test {
			continue
		}
		mark := func(e ast.Expr) {
			if id := root(e); id != nil && packageLevel(f, id) {
				written[id.Name] = true
			}
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, left := range n.Lhs {
						mark(left)
					}
				}
			case *ast.IncDecStmt:
				mark(n.X)
			case *ast.UnaryExpr:
				if _, plain := n.X.(*ast.Ident); plain && n.Op == token.AND { // a pointer to an element may be for reading
					mark(n.X)
				}
			}
			return true
		})
	}
	return written
}

// root is the variable an expression such as a.b[c] starts from.
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		default:
			return nil
		}
	}
}

func packageLevel(f *file, id *ast.Ident) bool {
	if id.Obj == nil {
		return true
	}
	return f.syntax.Scope.Lookup(id.Name) == id.Obj
}
