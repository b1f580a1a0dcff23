package etcd_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOptionTypesNameAllOptionsThatFit compares the doc of each option type with the
// functions whose result fits it.
func TestOptionTypesNameAllOptionsThatFit(t *testing.T) {
	t.Parallel()
	p := packageDoc(t)
	// widens are the option types that each option type is made of.
	widens, docs := map[string][]string{}, map[string]string{}
	constructors := map[string]string{} // the type of each option
	for _, typ := range p.Types {
		if !strings.HasSuffix(typ.Name, "Option") {
			continue
		}
		docs[typ.Name] = typ.Doc
		spec := typ.Decl.Specs[0].(*ast.TypeSpec).Type.(*ast.InterfaceType)
		for _, m := range spec.Methods.List {
			if of, ok := m.Type.(*ast.Ident); ok {
				widens[typ.Name] = append(widens[typ.Name], of.Name)
			}
		}
		for _, f := range typ.Funcs {
			constructors[f.Name] = typ.Name
		}
	}
	require.Greater(t, len(constructors), 25, "options that were found")
	var fits func(option, typ string)
	fits = func(option, typ string) {
		require.Contains(t, docs[typ], "["+option+"]", "the doc of %s", typ)
		for _, of := range widens[typ] {
			fits(option, of)
		}
	}
	for option, typ := range constructors {
		fits(option, typ)
	}
}

func packageDoc(t *testing.T) *doc.Package {
	t.Helper()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		require.NoError(t, err)
		files = append(files, f)
	}
	p, err := doc.NewFromFiles(set, files, "github.com/blueprint-go/etcd")
	require.NoError(t, err)
	return p
}
