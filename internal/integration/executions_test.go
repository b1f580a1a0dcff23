package integration

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

// allCodes are those of gRPC, but for OK.
func allCodes() []codes.Code {
	var all []codes.Code
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		all = append(all, c)
	}
	return all
}

// Whatever a server or a proxy answers after a write was applied: the write is
// executed once, and its error says that it may have been. Raw clientv3's
// executions stand beside, where it has the same call.
func TestWriteExecutesAtMostOnceWhateverTheAnswer(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	plain := client(t, config(srv))
	encrypted := client(t, config(srv).WithEncryption(bytes.Repeat([]byte{7}, 32)).WithNamespace("encrypted"))
	raw := rawExecutions(t, srv.Endpoints(), faults)

	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "executions by etcd, encrypting etcd / clientv3")
	for _, op := range writesOfTheAPI {
		fmt.Fprintf(w, "\t%s", op.name)
	}
	for _, code := range allCodes() {
		fmt.Fprintf(w, "\n%v", code)
		for _, op := range writesOfTheAPI {
			key := fmt.Sprintf("%s%s/%v", prefix(t), op.name, code)
			n := executions(t, plain, faults, op, key, code)
			m := executions(t, encrypted, faults, op, key, code)
			fmt.Fprintf(w, "\t%d, %d", n, m)
			if op.raw != nil {
				fmt.Fprintf(w, " / %d", raw[rawCase{op.name, code}])
			}
		}
	}
	require.NoError(t, w.Flush())
	t.Log("\n" + table.String())
	// The same faults do make a difference elsewhere.
	require.Greater(t, raw[rawCase{"put", codes.DeadlineExceeded}], int64(1))
	require.Greater(t, raw[rawCase{"put", codes.Canceled}], int64(1))
}

// executions makes one call of op whose writes are answered by code after they
// were applied, and returns how many were.
func executions(t *testing.T, c *etcd.Client, faults *faults, op write, key string, code codes.Code) int64 {
	t.Helper()
	call := op.begin(t, c, key)
	s := &script{answer: status.Error(code, "injected"), writesOnly: true}
	what := fmt.Sprintf("%s, %v", op.name, code)
	survives := slices.Contains([]string{"grant", "lock", "try lock"}, op.name) // has an ID to be known by
	if op.name == "grant" {
		s.times = 1
	}
	err := call(faults.follow(t.Context(), s))
	if survives && err == nil {
		assert.Equal(t, int64(1), s.executed.Load(), what)
		return s.executed.Load()
	}
	var e *etcd.Error
	if assert.ErrorAs(t, err, &e, what) {
		assert.True(t, e.Sent, what)
		assert.True(t, e.MaybeApplied, what)
		assert.True(t, etcd.MaybeApplied(err), what)
		assert.Equal(t, code, status.Code(errors.Unwrap(e)), what)
	}
	assert.Equal(t, int64(1), s.executed.Load(), what)
	assert.Equal(t, int64(1), s.seen.Load(), what)
	return s.executed.Load()
}

type rawCase struct {
	op   string
	code codes.Code
}

// rawExecutions counts clientv3's executions, of all cases at once: some take
// seconds.
func rawExecutions(t *testing.T, endpoints []string, faults *faults) map[rawCase]int64 {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	ctx := within(t, patience)

	var mu sync.Mutex
	var calls sync.WaitGroup
	counts := map[rawCase]int64{}
	for _, op := range writesOfTheAPI {
		for _, code := range allCodes() {
			if op.raw == nil {
				continue
			}
			calls.Go(func() {
				s := &script{answer: status.Error(code, "injected")}
				err := op.raw(faults.follow(ctx, s), c, fmt.Sprintf("/raw/%s/%v", op.name, code))
				assert.Error(t, err)
				mu.Lock()
				defer mu.Unlock()
				counts[rawCase{op.name, code}] = s.executed.Load()
			})
		}
	}
	calls.Wait()
	return counts
}
