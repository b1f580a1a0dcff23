package snippets

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// documents says, for each document, where the snippets under its headings stand:
// each in one function, or its paragraphs in one each, where they declare the same
// variable.
var documents = map[string]map[string][]string{
	"testdata/snippets.md":        functions,
	"../../docs/from-clientv3.md": fromClientv3,
}

var fromClientv3 = map[string][]string{
	"A key that may be missing":           {"getOr"},
	"A transaction by hand":               {"commitByHand"},
	"A list and what comes after it":      {"follow"},
	"A copy of a prefix":                  {"copyOf"},
	"A configuration that is always good": {"followConfiguration"},
	"A critical section":                  {"criticalSection"},
	"A leader":                            {"leader"},
	"An instance of a service":            {"serveInstance"},
	"A transfer":                          {"transfer"},
}

var functions = map[string][]string{
	"Configuration":       {"basicConfig", "authConfig", "tlsConfig", "encryptionConfig"},
	"Client Creation":     {"createClient"},
	"Basic Operations":    {"basicOperations"},
	"Prefix Operations":   {"prefixOperations"},
	"Watch Operations":    {"watch"},
	"Distributed Locking": {"lock"},
	"Leases":              {"lease"},
	"Error Handling":      {"handleErrors"},
	"Batch Operations":    {"batch"},
	"High Availability":   {"highlyAvailableConfig"},
}

func TestSnippetsStandInTheCodeAsPrinted(t *testing.T) {
	t.Parallel()
	bodies := functionBodies(t)
	for document, functions := range documents {
		snippets := printedSnippets(t, document)
		require.Len(t, snippets, len(functions), document)
		for heading, snippet := range snippets {
			names := functions[heading]
			require.NotEmpty(t, names, "no code for %q", heading)
			parts := []string{snippet}
			if len(names) > 1 {
				parts = strings.Split(snippet, "\n\n")
			}
			require.Len(t, parts, len(names), heading)
			for i, name := range names {
				require.Contains(t, bodies[name], "\n"+unindented(parts[i])+"\n", "%s in %s", heading, name)
			}
		}
	}
}

func TestReadmeNamesEveryFieldOfTheConfiguration(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	for _, field := range reflect.VisibleFields(reflect.TypeFor[etcd.Config]()) {
		if field.IsExported() {
			require.Contains(t, string(text), "`"+field.Name+"`")
		}
	}
}

// printedSnippets returns the code under each heading of a document that has some.
func printedSnippets(t *testing.T, document string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(document)
	require.NoError(t, err)
	snippets := make(map[string]string)
	headed := regexp.MustCompile("(?ms)^#+ ([^\n]+)\n+```go\n(.*?)\n```$")
	for _, match := range headed.FindAllStringSubmatch(string(text), -1) {
		snippets[match[1]] = match[2]
	}
	require.Len(t, snippets, strings.Count(string(text), "```go"), "a snippet without a heading of its own")
	return snippets
}

// functionBodies returns what stands between the braces of each function in the
// tests of this package.
func functionBodies(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	bodies := make(map[string]string)
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, file, source, 0)
		require.NoError(t, err)
		for _, decl := range tree.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok {
				body := source[set.Position(f.Body.Lbrace).Offset+1 : set.Position(f.Body.Rbrace).Offset]
				bodies[f.Name.Name] = unindented(string(body))
			}
		}
	}
	return bodies
}

// unindented drops the blanks around each line, which are up to gofmt.
func unindented(code string) string {
	lines := strings.Split(code, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.Join(lines, "\n")
}
