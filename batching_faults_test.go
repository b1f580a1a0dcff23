package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

func TestRefusalOfOneTouchesNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		ctx := t.Context()
		var dead error
		m.meet(
			func() { require.NoError(t, m.client.Put(ctx, "a", []byte("1"))) },
			func() { dead = m.client.Put(ctx, "b", []byte("2"), etcd.WithLease(7)) },
			func() { require.NoError(t, m.client.Put(ctx, "c", []byte("3"))) },
		)
		require.ErrorIs(t, dead, etcd.ErrLeaseNotFound)
		require.False(t, etcd.MaybeApplied(dead))
		require.Equal(t, []int{3}, m.batches(), "refused as a whole")
		m.requireStored(map[string]string{"a": "1", "c": "3"})
		for _, key := range []string{"a", "c"} {
			require.Equal(t, []int{1}, m.sizes.of(key), "and sent again, each by itself")
		}
		_, found := m.stored("b")
		require.False(t, found)
	})
}

func TestCompactedRevisionOfOneTouchesNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		ctx := t.Context()
		for i := range 5 {
			m.put("key", fmt.Sprint(i))
		}
		_, err := m.srv.Compact(ctx, &pb.CompactionRequest{Revision: 4})
		require.NoError(t, err)
		m.answer = func(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
			for _, op := range req.Success {
				if op.GetRequestRange().GetRevision() < 4 {
					return nil, rpctypes.ErrGRPCCompacted
				}
			}
			return m.srv.Txn(ctx, req)
		}
		var values [2]string
		var old error
		m.meet(
			func() {
				v, err := m.client.Get(ctx, "key", etcd.WithRevision(4))
				require.NoError(t, err)
				values[0] = string(v)
			},
			func() { _, old = m.client.Get(ctx, "key", etcd.WithRevision(2)) },
			func() {
				v, err := m.client.Get(ctx, "key", etcd.WithRevision(5))
				require.NoError(t, err)
				values[1] = string(v)
			},
		)
		require.ErrorIs(t, old, etcd.ErrCompacted)
		require.Equal(t, [2]string{"2", "3"}, values)
	})
}

func TestFullServerStillTakesDeletions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		ctx := t.Context()
		m.put("a", "")
		m.put("b", "")
		m.answer = func(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
			for _, op := range req.Success {
				if op.GetRequestPut() != nil {
					return nil, rpctypes.ErrGRPCNoSpace
				}
			}
			return m.srv.Txn(ctx, req)
		}
		deleting := func(key string) func() {
			return func() {
				n, err := m.client.Delete(ctx, key)
				require.NoError(t, err)
				require.EqualValues(t, 1, n)
			}
		}
		putting := func(key string) func() {
			return func() {
				err := m.client.Put(ctx, key, nil)
				require.ErrorIs(t, err, etcd.ErrNoSpace)
				require.True(t, etcd.MaybeApplied(err), "as by itself")
			}
		}
		m.meet(putting("c"), deleting("a"), putting("d"), deleting("b"))
	})
}

func TestLostAnswerIsUnknownToEachAndSettled(t *testing.T) {
	for _, applied := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			m := newMeeting(t, func(cfg *etcd.Config) { cfg.WithEncryption([]byte("a key of sixteen bytes or more")) })
			ctx := t.Context()
			m.answer = func(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
				if applied {
					_, err := m.srv.Txn(ctx, req)
					require.NoError(t, err)
				}
				return nil, status.Error(codes.Unavailable, "connection lost")
			}
			m.put("swapped", "")
			revision := m.srv.Revision()
			errs := make([]error, 3)
			m.meet(
				func() { errs[0] = m.client.Put(ctx, "a", []byte("1")) },
				func() { errs[1] = m.client.Put(ctx, "b", []byte("2")) },
				func() { _, errs[2] = m.client.CompareAndSwapRevision(ctx, "swapped", revision, []byte("3")) },
			)
			require.Len(t, m.batches(), 1, "a write is sent once")
			m.answer = nil
			for i, key := range []string{"a", "b", "swapped"} {
				require.ErrorIs(t, errs[i], etcd.ErrUnavailable)
				require.True(t, etcd.MaybeApplied(errs[i]), key)
				var e *etcd.Error
				require.ErrorAs(t, errs[i], &e)
				require.Equal(t, key, e.Key)
				outcome, err := m.client.Settle(ctx, errs[i])
				require.NoError(t, err)
				if applied {
					require.Equal(t, etcd.OutcomeApplied, outcome, key)
				} else {
					require.Equal(t, etcd.OutcomeUnknown, outcome, key)
				}
			}
		})
	}
}

func TestBatchExecutesAtMostOnceWhateverTheAnswer(t *testing.T) {
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		t.Run(code.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMeeting(t)
				ctx := t.Context()
				m.answer = func(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
					_, err := m.srv.Txn(ctx, req)
					require.NoError(t, err)
					return nil, status.Error(code, "from a proxy")
				}
				errs := make([]error, 3)
				var calls []func()
				for i := range errs {
					calls = append(calls, func() { errs[i] = m.client.Put(ctx, fmt.Sprint(i), nil) })
				}
				m.meet(calls...)
				for i, err := range errs {
					require.Error(t, err)
					require.True(t, etcd.MaybeApplied(err))
					resp, getErr := m.srv.Range(ctx, &pb.RangeRequest{Key: []byte(fmt.Sprint(i))})
					require.NoError(t, getErr)
					require.EqualValues(t, 1, resp.Kvs[0].Version)
				}
			})
		})
	}
}

func TestLeavingTakesAnUnsentRequestAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		release := m.gather(
			func() { require.NoError(t, m.client.Put(t.Context(), "a", nil)) },
			func() { gone <- m.client.Put(ctx, "b", nil) },
			func() { require.NoError(t, m.client.Put(t.Context(), "c", nil)) },
		)
		cancel()
		synctest.Wait()
		err := <-gone
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, etcd.MaybeApplied(err))
		release()
		require.Equal(t, []int{2}, m.batches())
		_, found := m.stored("b")
		require.False(t, found)
	})
}

func TestLeavingASentBatchIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		answered := make(chan struct{})
		m.answer = func(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
			<-answered
			return m.srv.Txn(ctx, req)
		}
		ctx, cancel := context.WithCancel(t.Context())
		gone, stays := make(chan error, 1), make(chan error, 1)
		release := m.gather(
			func() { gone <- m.client.Put(ctx, "a", nil) },
			func() { stays <- m.client.Put(t.Context(), "b", nil) },
		)
		go release()
		synctest.Wait()
		cancel()
		err := <-gone // while the server says nothing
		require.ErrorIs(t, err, context.Canceled)
		require.True(t, etcd.MaybeApplied(err))
		close(answered)
		require.NoError(t, <-stays)
	})
}

func TestLeavingUnconnectedChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		m := newMeeting(t, func(cfg *etcd.Config) {
			dial := cfg.Dialer
			cfg.WithDialer(func(ctx context.Context, network, address string) (net.Conn, error) {
				if down.Load() {
					return nil, errors.New("no way")
				}
				return dial(ctx, network, address)
			})
		})
		ctx, cancel := context.WithCancel(t.Context())
		gone, first, stays := make(chan error, 1), make(chan error, 1), make(chan error, 1)
		go func() { first <- m.client.Put(t.Context(), "first", nil) }()
		synctest.Wait()
		go func() { gone <- m.client.Put(ctx, "a", nil) }()
		go func() { stays <- m.client.Put(t.Context(), "b", nil) }()
		synctest.Wait()
		waitPatience()
		cancel() // the batch has left the queue by now, and waits for a connection
		err := <-gone
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "no way")
		require.False(t, etcd.MaybeApplied(err))
		down.Store(false)
		require.NoError(t, <-first)
		require.NoError(t, <-stays)
		_, found := m.stored("a")
		require.False(t, found)
	})
}

func TestCloseEndsWhatWaitsForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		errs := make(chan error, 4)
		release := m.gather(
			func() { errs <- m.client.Put(t.Context(), "a", nil) },
			func() { errs <- m.client.Put(t.Context(), "b", nil) },
			func() { _, err := m.client.Get(t.Context(), "a"); errs <- err },
			func() { _, err := m.client.Get(t.Context(), "b"); errs <- err },
		)
		require.NoError(t, m.client.Close())
		for range cap(errs) {
			err := <-errs
			require.ErrorIs(t, err, etcd.ErrClosed)
			require.False(t, etcd.MaybeApplied(err))
		}
		release()
		_, found := m.stored("a")
		require.False(t, found)
	})
}

func TestBatchIsSealedWithTheCurrentKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newKey(t, "an older key of a client"), newKey(t, "a newer key of a client")
		ring := newRing(t, a, b)
		m := newMeeting(t, func(cfg *etcd.Config) { cfg.WithKeyring(ring) })
		release := m.gather(
			func() { require.NoError(t, m.client.Put(t.Context(), "a", []byte("1"))) },
			func() { require.NoError(t, m.client.Put(t.Context(), "b", []byte("2"))) },
		)
		require.NoError(t, ring.Replace(b, a))
		release()
		for _, key := range []string{"a", "b"} {
			kv, err := m.client.GetKV(t.Context(), key)
			require.NoError(t, err)
			require.NotEmpty(t, kv.Value)
			value, _ := m.stored(key)
			id := b.ID()
			require.Contains(t, value, string(id[:]), "sealed with the new key")
		}
		require.NotContains(t, m.batches(), 2, "each is encrypted again by itself")
	})
}

func TestUndecodableValueOfOneTouchesNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t, func(cfg *etcd.Config) { cfg.WithEncryption([]byte("a key of sixteen bytes or more")) })
		ctx := t.Context()
		require.NoError(t, m.client.Put(ctx, "good", []byte("value")))
		m.put("bad", "plain")
		m.meet(
			func() {
				value, err := m.client.Get(ctx, "good")
				require.NoError(t, err)
				require.Equal(t, "value", string(value))
			},
			func() {
				_, err := m.client.Get(ctx, "bad")
				var e *etcd.DecodeError
				require.ErrorAs(t, err, &e)
				require.Equal(t, "bad", e.Key)
			},
		)
		require.Equal(t, []int{2}, m.batches())
	})
}

func TestBatchThatLacksAnswersIsATypedError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		m.answer = func(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error) {
			return &pb.TxnResponse{Header: &pb.ResponseHeader{Revision: 9}, Succeeded: true}, nil
		}
		put := func(key string) func() {
			return func() {
				err := m.client.Put(t.Context(), key, nil)
				require.ErrorIs(t, err, etcd.ErrServer)
				require.True(t, etcd.MaybeApplied(err))
			}
		}
		m.meet(put("a"), put("b"))
	})
}

// etcd 3.4 refuses every transaction when it is full, and deletions by themselves not.
func TestDeletionsGoApartWhereTransactionsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		ctx := t.Context()
		m.answer = func(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error) { return nil, rpctypes.ErrGRPCNoSpace }
		var calls []func()
		for i := range 4 {
			m.put(fmt.Sprint(i), "")
			calls = append(calls, func() {
				n, err := m.client.Delete(ctx, fmt.Sprint(i))
				require.NoError(t, err)
				require.EqualValues(t, 1, n)
			})
			calls = append(calls, func() { require.NoError(t, second(m.client.Exists(ctx, fmt.Sprint("e", i)))) })
		}
		m.meet(calls...)
		met := len(m.batches())
		require.Positive(t, met)
		m.release = make(chan struct{})
		m.meet(
			func() { require.NoError(t, second(m.client.Delete(ctx, "a"))) },
			func() { require.NoError(t, second(m.client.Delete(ctx, "b"))) },
		)
		require.Len(t, m.batches(), met, "and for a while from the beginning")
	})
}

func TestLeavingARefusedBatchIsCertain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t)
		m.answer = func(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error) {
			return nil, rpctypes.ErrGRPCRequestTooManyRequests
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		gone, stays := make(chan error, 1), make(chan error, 1)
		release := m.gather(
			func() { gone <- m.client.Put(ctx, "a", nil) },
			func() { stays <- m.client.Put(t.Context(), "b", nil) },
		)
		go release()
		for _, err := range []error{<-gone, <-stays} {
			require.ErrorIs(t, err, etcd.ErrTimeout)
			require.ErrorIs(t, err, etcd.ErrTooManyRequests)
			require.False(t, etcd.MaybeApplied(err))
		}
	})
}

func TestCloseWaitsForNoTokenSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		m := newMeeting(t, func(cfg *etcd.Config) {
			cfg.WithTokenSource(func(ctx context.Context) (string, error) {
				if hangs.Load() {
					<-ctx.Done()
				}
				return "token", ctx.Err()
			})
		})
		m.answer = func(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error) {
			hangs.Store(true)
			return nil, rpctypes.ErrGRPCInvalidAuthToken
		}
		errs := make(chan error, 2)
		release := m.gather(
			func() { errs <- m.client.Put(t.Context(), "a", nil) },
			func() { errs <- m.client.Put(t.Context(), "b", nil) },
		)
		go release()
		synctest.Wait()
		began := time.Now()
		require.NoError(t, m.client.Close())
		require.Zero(t, time.Since(began))
		for range 2 {
			err := <-errs
			require.ErrorIs(t, err, etcd.ErrClosed)
			require.False(t, etcd.MaybeApplied(err))
		}
	})
}

// A hook may hand on a context without its deadline.
func TestRequestsWithoutADeadlineTravelAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(t, func(cfg *etcd.Config) { cfg.WithHooks(&endless{}) })
		m.meet(
			func() { require.NoError(t, m.client.Put(t.Context(), "a", nil)) },
			func() { require.NoError(t, m.client.Put(t.Context(), "b", nil)) },
		)
		require.Empty(t, m.batches())
	})
}

// endless is a hook that takes the deadline away.
type endless struct{ sizes }

// BeforeRequest implements [etcd.Hook].
func (*endless) BeforeRequest(ctx context.Context, _ etcd.RequestInfo) context.Context {
	return context.WithoutCancel(ctx)
}
