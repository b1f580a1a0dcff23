package etcd_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/metadata"

	"github.com/blueprint-go/etcd"
)

func TestRequestsThatMeetTravelTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		ctx, calls, revisions := t.Context(), []func(){}, make([]etcd.WriteResult, 5)
		for i := range revisions {
			calls = append(calls, func() {
				key := fmt.Sprint("key", i)
				require.NoError(t, m.client.Put(ctx, key, []byte(key), etcd.WithResult(&revisions[i])))
			})
		}
		m.meet(calls...)
		require.Equal(t, []int{5}, m.batches())
		for i, r := range revisions {
			key := fmt.Sprint("key", i)
			value, _ := m.stored(key)
			require.Equal(t, key, value)
			require.Equal(t, revisions[0].Revision, r.Revision)
			require.Equal(t, []int{5}, m.sizes.of(key), "one request to hooks, with the size of the batch")
		}
		require.Equal(t, []int{1, 1, 1, 1, 1}, m.sizes.of(held), "nothing waits while nothing is under way")
	})
}

func TestEachBatchedCallHasItsOwnResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		ctx := t.Context()
		m.put("a", "1")
		m.put("b", "2")
		m.put("c", "3")
		revision := m.srv.Revision() // of c
		var got [9]any
		m.meet(
			func() {
				ok, err := m.client.CompareAndSwapRevision(ctx, "c", revision, []byte("4"))
				got[0] = []any{ok, err}
			},
			func() {
				ok, err := m.client.CompareAndSwapRevision(ctx, "b", revision, []byte("4"))
				got[1] = []any{ok, err}
			},
			func() { ok, err := m.client.PutIfNotExists(ctx, "new", []byte("5")); got[2] = []any{ok, err} },
			func() { ok, err := m.client.PutIfNotExists(ctx, "a", []byte("5")); got[3] = []any{ok, err} },
			func() { v, err := m.client.Get(ctx, "a"); got[4] = []any{string(v), err} },
			func() { _, err := m.client.Get(ctx, "missing"); got[5] = err },
			func() { ok, err := m.client.Exists(ctx, "b"); got[6] = []any{ok, err} },
			func() { kv, err := m.client.GetKV(ctx, "c"); got[7] = []any{string(kv.Value), err} },
			func() {
				got[8] = m.client.BulkPut(ctx, map[string][]byte{"x": []byte("6"), "y": []byte("7")})
			},
		)
		require.Equal(t, []any{true, error(nil)}, got[0])
		require.Equal(t, []any{false, error(nil)}, got[1])
		require.Equal(t, []any{true, error(nil)}, got[2])
		require.Equal(t, []any{false, error(nil)}, got[3])
		require.Equal(t, []any{"1", error(nil)}, got[4])
		require.ErrorIs(t, got[5].(error), etcd.ErrKeyNotFound)
		require.Equal(t, []any{true, error(nil)}, got[6])
		require.Contains(t, []any{"3", "4"}, got[7].([]any)[0], "before or after the swap")
		require.NoError(t, asError(got[8]))
		require.ElementsMatch(t, []int{5, 4}, m.batches(), "reads and writes apart")
		m.requireStored(map[string]string{"a": "1", "b": "2", "c": "4", "new": "5", "x": "6", "y": "7"})
	})
}

func asError(v any) error {
	err, _ := v.(error)
	return err
}

func TestTwoWritesOfAKeyKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		ctx := t.Context()
		var first, second, other etcd.WriteResult
		m.meet(
			func() { require.NoError(t, m.client.Put(ctx, "key", []byte("first"), etcd.WithResult(&first))) },
			func() { require.NoError(t, m.client.Put(ctx, "key", []byte("second"), etcd.WithResult(&second))) },
			func() { require.NoError(t, m.client.Put(ctx, "other", nil, etcd.WithResult(&other))) },
		)
		value, _ := m.stored("key")
		require.Equal(t, "second", value)
		require.Less(t, first.Revision, second.Revision, "each has its own result")
		require.Equal(t, first.Revision, other.Revision, "the key behind doesn't wait")
	})
}

func TestConditionSeesTheWritesBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		ctx := t.Context()
		var bound error
		m.meet(
			func() { require.NoError(t, m.client.Put(ctx, "a", nil)) },
			func() { bound = m.client.Put(ctx, "b", nil, etcd.WithCondition(etcd.Missing("a"))) },
		)
		require.ErrorIs(t, bound, etcd.ErrConditionFailed, "the server would decide it before the put")
		require.False(t, etcd.MaybeApplied(bound))
	})
}

func TestEqualReadsShareAnswersAndOwnTheirBytes(t *testing.T) {
	for name, change := range map[string]func(*etcd.Config){
		"plain":     func(*etcd.Config) {},
		"encrypted": func(cfg *etcd.Config) { cfg.WithEncryption([]byte("a key of sixteen bytes or more")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMeeting(t, change)
				ctx := t.Context()
				require.NoError(t, m.client.Put(ctx, "key", []byte("value")))
				var got [4][]byte
				calls := []func(){func() { _, _ = m.client.Get(ctx, "other") }}
				for i := range got {
					calls = append(calls, func() {
						var err error
						got[i], err = m.client.Get(ctx, "key")
						require.NoError(t, err)
					})
				}
				m.meet(calls...)
				require.Equal(t, []int{2}, m.batches())
				for i := range got {
					require.Equal(t, "value", string(got[i]))
					clear(got[i])
				}
			})
		})
	}
}

func TestKindsOfRequestsTravelApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		ctx := t.Context()
		get := func(key string, opts ...etcd.GetOption) func() {
			return func() {
				_, err := m.client.Get(ctx, key, opts...)
				require.ErrorIs(t, err, etcd.ErrKeyNotFound)
			}
		}
		m.meet(
			get("a"), get("b"),
			get("c", etcd.WithSerializable()), get("d", etcd.WithSerializable()),
			get("e", etcd.WithRevision(1)), get("f", etcd.WithRevision(1)),
			func() { _, _ = m.client.Delete(ctx, "g") }, func() { _, _ = m.client.Delete(ctx, "h") },
			func() { _ = m.client.Put(ctx, "i", nil) }, func() { _ = m.client.Put(ctx, "j", nil) },
		)
		require.Equal(t, []int{2, 2, 2, 2, 2}, m.batches())
		for _, txn := range m.txns {
			a, b := txn.Success[0], txn.Success[1]
			require.IsType(t, a.Request, b.Request)
			require.Equal(t, a.GetRequestRange().GetSerializable(), b.GetRequestRange().GetSerializable())
			require.Equal(t, a.GetRequestRange().GetRevision(), b.GetRequestRange().GetRevision())
		}
	})
}

func TestSomeRequestsTravelByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		ctx := t.Context()
		many := map[string][]byte{}
		for i := range 17 {
			many[fmt.Sprint("many", i)] = nil
		}
		done := 0
		release := m.gather(
			func() {
				require.NoError(t, m.client.Put(ctx, "large", []byte(strings.Repeat("x", 17<<10))))
				done++
			},
			func() {
				require.NoError(t, m.client.Put(metadata.AppendToOutgoingContext(ctx, "trace", "1"), "marked", nil))
				done++
			},
			func() { require.NoError(t, m.client.BulkPut(ctx, many)); done++ },
			func() { _, err := m.client.List(ctx, "many"); require.NoError(t, err); done++ },
		)
		require.Equal(t, 4, done, "none waits for what is held")
		release()
	})
}

func TestReadsGoApartAfterALargeValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		m.put("large", strings.Repeat("x", 100<<10))
		m.put("small", "x")
		get := func(key string) func() {
			return func() { require.NoError(t, second(m.client.Get(t.Context(), key))) }
		}
		m.meet(get("large"), get("small"))
		require.Equal(t, []int{2}, m.batches())
		m.release = make(chan struct{})
		m.meet(get("small"), get("large"))
		require.Equal(t, []int{2}, m.batches(), "by themselves for a while")
		<-time.After(time.Second)
		m.release = make(chan struct{})
		m.meet(get("large"), get("small"))
		require.Equal(t, []int{2, 2}, m.batches())
	})
}

func TestBatchesHaveALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		var calls []func()
		for i := range 300 {
			calls = append(calls, func() { require.NoError(t, m.client.Put(t.Context(), fmt.Sprint(i), nil)) })
		}
		for i := range 20 {
			calls = append(calls, func() {
				require.NoError(t, m.client.Put(t.Context(), fmt.Sprint("large", i), make([]byte, 15<<10)))
			})
		}
		m.meet(calls...)
		require.Equal(t, []int{112, 112, 76 + 8, 8}, m.batches()[:4], "operations, and bytes")
	})
}

// What is under way may be held up for as long as its deadline is away.
func TestNobodyWaitsLongForAHeldUpRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		took := make(chan time.Duration, 2)
		began := time.Now()
		put := func(key string) func() {
			return func() {
				require.NoError(t, m.client.Put(t.Context(), key, nil))
				took <- time.Since(began)
			}
		}
		release := m.gather(put("a"), put("b"))
		for range cap(took) {
			require.Equal(t, 25*time.Millisecond, <-took)
		}
		release()
	})
}

// A limit that the client doesn't know of costs a few refusals, and no operation.
func TestBatchesShrinkToTheServersLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		m.answer = func(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
			if err := checkTxnOps(req, 16); err != nil {
				return nil, err
			}
			return m.srv.Txn(ctx, req)
		}
		for round := range 3 {
			var calls []func()
			for i := range 40 {
				calls = append(calls, func() {
					require.NoError(t, m.client.Put(t.Context(), fmt.Sprint(i), []byte(fmt.Sprint(round))))
				})
			}
			m.release = make(chan struct{})
			m.meet(calls...)
			for i := range 40 {
				value, _ := m.stored(fmt.Sprint(i))
				require.Equal(t, fmt.Sprint(round), value)
			}
		}
		require.LessOrEqual(t, slices.Max(m.batches()[3:]), 16)
	})
}

// Nested reads would be a write to the server, and nested writes aren't checked by older ones
// for what the user may do.
func TestSomeRequestsAreNeverNested(t *testing.T) {
	for name, change := range map[string]func(*etcd.Config){
		"anybody": func(*etcd.Config) {},
		"known":   func(cfg *etcd.Config) { cfg.WithToken("token") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMeeting(t, change)
				ctx := t.Context()
				lease := etcd.WithLease(7)
				require.NoError(t, second(m.srv.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 7, TTL: 60})))
				m.meet(
					func() { require.NoError(t, second(m.client.BulkGet(ctx, []string{"a", "b"}))) },
					func() { require.NoError(t, second(m.client.Exists(ctx, "a"))) },
					func() { require.NoError(t, second(m.client.PutIfNotExists(ctx, "c", nil))) },
					func() { require.NoError(t, m.client.Put(ctx, "d", nil, lease)) },
					func() { require.NoError(t, m.client.Put(ctx, "e", nil)) },
					func() { require.NoError(t, m.client.Put(ctx, "f", nil)) },
				)
				nested := 0
				for _, txn := range m.txns {
					for _, op := range txn.Success {
						if op.GetRequestTxn() != nil {
							nested++
						}
						if len(txn.Success) > 1 && name == "known" {
							require.Zero(t, op.GetRequestPut().GetLease())
						}
						for _, inner := range op.GetRequestTxn().GetSuccess() {
							require.Nil(t, inner.GetRequestRange())
						}
					}
				}
				require.Equal(t, map[string]int{"anybody": 1, "known": 0}[name], nested)
			})
		})
	}
}

func second[T any](_ T, err error) error { return err }
