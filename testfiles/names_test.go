package testfiles

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// declared is what one package declares and imports.
type declared struct {
	types   map[string]bool
	stand   map[string]bool // names of types that stand for others
	imports map[string]bool
}

// sameName are types that share their name with one of a package that theirs imports, each with the reason.
var sameName = map[string]string{
	"Options": "every package calls them so",
	"Error":   "every package calls its own so",
}

// TestTypeNames checks that no exported type has the name of another one in a package that its own imports: where
// both are used, a reader has to know which is meant. Exempt is a type that stands for the other: one that embeds it,
// and one that is declared to implement it or to be implemented by it, by var _ other.Type = (*Type)(nil).
func TestTypeNames(t *testing.T) {
	packages := readPackages(t, "..")
	if len(packages) < 20 {
		t.Fatalf("%d packages found", len(packages))
	}

	for name, p := range packages {
		for imported := range p.imports {
			other := packages[imported]
			if other == nil {
				continue
			}
			for typeName := range p.types {
				if other.types[typeName] && !p.stand[typeName] && sameName[typeName] == "" {
					t.Errorf("%s and %s, which it imports, both have a type %s", name, imported, typeName)
				}
			}
		}
	}
}

// readPackages returns what the packages below a folder declare, by import path.
func readPackages(t *testing.T, root string) map[string]*declared {
	t.Helper()
	packages := map[string]*declared{}
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			skipped := []string{"node_modules", "build", "testdata", ".git"}
			if slices.Contains(skipped, entry.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}

		folder, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		importPath := path.Join("serve", filepath.ToSlash(folder))
		if packages[importPath] == nil {
			packages[importPath] = &declared{
				types:   map[string]bool{},
				stand:   map[string]bool{},
				imports: map[string]bool{},
			}
		}
		packages[importPath].add(parsed)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return packages
}

// add notes the exported types of a file, less aliases and those that stand for one of the same name, and its imports.
func (d *declared) add(file *ast.File) {
	for _, spec := range file.Imports {
		if imported, err := strconv.Unquote(spec.Path.Value); err == nil {
			d.imports[imported] = true
		}
	}
	for _, declaration := range file.Decls {
		group, ok := declaration.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range group.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && !s.Assign.IsValid() && !embeds(s) {
					d.types[s.Name.Name] = true
				}
			case *ast.ValueSpec:
				if s.Type != nil && s.Names[0].Name == "_" {
					d.stand[lastName(s.Type)] = true
				}
			}
		}
	}
}

// embeds reports whether a struct embeds another package's type of its own name.
func embeds(s *ast.TypeSpec) bool {
	structure, ok := s.Type.(*ast.StructType)
	if !ok {
		return false
	}
	return slices.ContainsFunc(structure.Fields.List, func(f *ast.Field) bool {
		return len(f.Names) == 0 && lastName(f.Type) == s.Name.Name
	})
}

// lastName returns the name of a type without its package.
func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return lastName(e.X)
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.Ident:
		return e.Name
	}
	return ""
}
