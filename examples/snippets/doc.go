// Package snippets holds the Go code that the documentation prints, letter for
// letter in functions that its tests run on a real server, so that what readers
// copy compiles and does what it says.
//
// testdata/snippets.md is the code as printed; a test compares the two.
package snippets
