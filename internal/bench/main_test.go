package main

import (
	"context"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if serveIfAsked() {
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// flags are the command line of a run that keeps all that it writes under dir.
func flags(dir string, more ...string) []string {
	return append([]string{"-dir", dir, "-out", dir + "/out/bench.json", "-docs", dir}, more...)
}

// mustFail runs the command, which is to fail.
func mustFail(t *testing.T, args ...string) error {
	t.Helper()
	err := run(context.Background(), args)
	if err == nil {
		t.Fatalf("%q was accepted", args)
	}
	return err
}
