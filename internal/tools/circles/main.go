// Command circles finds the files of a package that depend on one another in a circle.
//
//	circles [-max N] [-ties] [PACKAGE...]
//
// A file depends on another file of its package if it names something declared there: a
// function, a type, a constant, a variable, a method or a field. Files that depend on one
// another in a circle can only be understood together, so a circle should be one noun.
// Circles prints each circle, with -ties also the names that make it one, and fails if
// one has more than N files.
package main

import (
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	limit := flag.Int("max", 0, "the most files that a circle may have; 0 for any number")
	ties := flag.Bool("ties", false, "print which name ties which files of a circle together")
	flag.Parse()
	if err := run(flag.Args(), *limit, *ties); err != nil {
		fmt.Fprintln(os.Stderr, "circles:", err)
		os.Exit(1)
	}
}

// run examines the packages that patterns match; without any, that of the current
// directory.
func run(patterns []string, limit int, ties bool) error {
	loaded, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedImports,
	}, patterns...)
	if err != nil {
		return err
	}
	if packages.PrintErrors(loaded) > 0 {
		return errors.New("the packages don't compile")
	}
	largest := 0
	for _, p := range loaded {
		uses := dependencies(p)
		for _, circle := range circles(uses) {
			largest = max(largest, len(circle))
			fmt.Printf("%s: %d files: %s\n", p.PkgPath, len(circle), strings.Join(circle, " "))
			if ties {
				printTies(uses, circle)
			}
		}
	}
	fmt.Printf("the largest circle has %d files\n", largest)
	if limit > 0 && largest > limit {
		return fmt.Errorf("at most %d files may depend on one another", limit)
	}
	return nil
}

// graph holds, for each file, the files that it depends on, and the names that it uses
// from there.
type graph map[string]map[string][]string

// dependencies asks the type checker where the names that each file uses are declared.
func dependencies(p *packages.Package) graph {
	uses := graph{}
	for _, file := range p.Syntax {
		from := filepath.Base(p.Fset.File(file.Pos()).Name())
		uses[from] = map[string][]string{}
		ast.Inspect(file, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			used := p.TypesInfo.Uses[id]
			if used == nil || used.Pkg() != p.Types || local(used) {
				return true
			}
			to := filepath.Base(p.Fset.File(used.Pos()).Name())
			if to != from && !slices.Contains(uses[from][to], id.Name) {
				uses[from][to] = append(uses[from][to], id.Name)
			}
			return true
		})
	}
	return uses
}

// local reports whether an object belongs to a function. Methods and fields have no
// parent scope, and the rest of a package has the package's own.
func local(o types.Object) bool {
	scope := o.Parent()
	return scope != nil && scope != o.Pkg().Scope()
}

// circles returns the files that reach each other, by Tarjan's algorithm for strongly
// connected components (SIAM Journal on Computing 1 (2), 1972), largest circle first.
func circles(uses graph) [][]string {
	t := tarjan{uses: uses, index: map[string]int{}, low: map[string]int{}, open: map[string]bool{}}
	for _, file := range slices.Sorted(maps.Keys(uses)) {
		if t.index[file] == 0 {
			t.visit(file)
		}
	}
	slices.SortStableFunc(t.found, func(a, b []string) int { return len(b) - len(a) })
	return t.found
}

// tarjan is the state of one search; an index of 0 stands for a file not visited yet.
type tarjan struct {
	uses       graph
	index, low map[string]int
	open       map[string]bool
	stack      []string
	found      [][]string
}

func (t *tarjan) visit(file string) {
	t.index[file] = len(t.index) + 1
	t.low[file] = t.index[file]
	t.stack, t.open[file] = append(t.stack, file), true
	for _, next := range slices.Sorted(maps.Keys(t.uses[file])) {
		if t.index[next] == 0 {
			t.visit(next)
			t.low[file] = min(t.low[file], t.low[next])
		} else if t.open[next] {
			t.low[file] = min(t.low[file], t.index[next])
		}
	}
	if t.low[file] != t.index[file] {
		return
	}
	at := slices.Index(t.stack, file)
	circle := slices.Sorted(slices.Values(t.stack[at:]))
	for _, f := range circle {
		t.open[f] = false
	}
	t.stack = t.stack[:at]
	if len(circle) > 1 {
		t.found = append(t.found, circle)
	}
}

// printTies prints what each file of a circle uses from the others.
func printTies(uses graph, circle []string) {
	for _, from := range circle {
		for _, to := range circle {
			if names := uses[from][to]; len(names) > 0 {
				fmt.Printf("\t%s -> %s: %s\n", from, to, strings.Join(names, " "))
			}
		}
	}
}
