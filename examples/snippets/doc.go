// Package snippets holds the Go code that the documentation prints, character for
// character, in functions that its tests run on a real server. So what readers copy
// compiles and does what it says.
//
// testdata/snippets.md is the code as printed; a test compares the two.
package snippets
