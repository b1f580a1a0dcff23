package etcd

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/blueprint-go/etcd/internal/errs"
)

// fakeRenewals is a server of renewals. What reaches it is answered by answer: nil
// means not at all, an error ends the stream.
type fakeRenewals struct {
	streams atomic.Int64
	delay   time.Duration // of each answer
	answer  func(stream int, id int64) (*pb.LeaseKeepAliveResponse, error)
}

func (f *fakeRenewals) open(ctx context.Context) (renewalCalls, error) {
	return &fakeStream{ctx, f, int(f.streams.Add(1)), make(chan fakeRequest, 1000)}, nil
}

type fakeStream struct {
	ctx    context.Context
	server *fakeRenewals
	number int
	asked  chan fakeRequest
}

type fakeRequest struct {
	id int64
	at time.Time
}

func (s *fakeStream) Context() context.Context { return s.ctx }

func (s *fakeStream) Send(req *pb.LeaseKeepAliveRequest) error {
	if s.ctx.Err() != nil {
		return io.EOF
	}
	s.asked <- fakeRequest{req.ID, time.Now()}
	return nil
}

func (s *fakeStream) Recv() (*pb.LeaseKeepAliveResponse, error) {
	for {
		select {
		case req := <-s.asked:
			<-time.After(time.Until(req.at.Add(s.server.delay)))
			if resp, err := s.server.answer(s.number, req.id); resp != nil || err != nil {
				return resp, err
			}
		case <-s.ctx.Done():
			return nil, s.ctx.Err()
		}
	}
}

// renewing returns renewals that go to f, and a function that keeps a lease as a lock
// does.
func renewing(t *testing.T, f *fakeRenewals) (*renewals, func(id LeaseID, ttl time.Duration) *session) {
	r := offline(t)
	r.open = f.open
	return r, func(id LeaseID, ttl time.Duration) *session {
		s := r.beginSession(id, time.Now(), ttl, sessionMargin(ttl))
		require.NoError(t, r.keep(s))
		return s
	}
}

// end closes a connection that was never made.
func end(r *renewals) {
	r.conn.rpc.Stop()
	r.conn.rpc.Wait()
}

func renewal(id, ttl int64) (*pb.LeaseKeepAliveResponse, error) {
	return &pb.LeaseKeepAliveResponse{ID: id, TTL: ttl}, nil
}

func TestSilentRenewalStreamIsReplacedInTime(t *testing.T) {
	for _, ttl := range []time.Duration{time.Second, 2 * time.Second, 15 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeRenewals{answer: func(stream int, id int64) (*pb.LeaseKeepAliveResponse, error) {
				if stream%2 == 1 {
					return nil, nil // every other member is silent
				}
				return renewal(id, int64(ttl/time.Second))
			}}
			r, keep := renewing(t, f)
			s := keep(1, ttl)
			<-time.After(5 * ttl)
			require.NoError(t, s.ctx.Err(), ttl)
			require.EqualValues(t, 2, f.streams.Load(), "one that answers is kept")
			end(r)
			require.ErrorIs(t, context.Cause(s.ctx), ErrClosed)
		})
	}
}

func TestLeaseIsRenewedEightTimesWithinItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		renewed := map[int64]int{}
		f := &fakeRenewals{answer: func(_ int, id int64) (*pb.LeaseKeepAliveResponse, error) {
			renewed[id]++
			return renewal(id, 10*id)
		}}
		r, keep := renewing(t, f)
		for id := range 50 {
			keep(LeaseID(id+1), time.Duration(10*(id+1))*time.Second)
		}
		<-time.After(1000 * time.Second)
		end(r)
		for id, n := range renewed {
			require.InDelta(t, 8*1000/(10*float64(id)), float64(n), 2+0.2*8*1000/(10*float64(id)), "lease %d", id)
		}
		require.Len(t, renewed, 50)
		require.EqualValues(t, 1, f.streams.Load())
	})
}

func TestSlowAnswersRenewLeasesToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// More than a stream is given at first.
		f := &fakeRenewals{delay: 6 * time.Second, answer: func(_ int, id int64) (*pb.LeaseKeepAliveResponse, error) { return renewal(id, 15) }}
		r, keep := renewing(t, f)
		s := keep(1, 15*time.Second)
		<-time.After(10 * time.Minute)
		require.NoError(t, s.ctx.Err())
		end(r)
	})
}

func TestRefusalOfOneLeaseLosesThatOneAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeRenewals{answer: func(_ int, id int64) (*pb.LeaseKeepAliveResponse, error) {
			switch id % 10 {
			case 3:
				return nil, rpctypes.ErrGRPCPermissionDenied
			case 4:
				return renewal(id, 0)
			}
			return renewal(id, 10)
		}}
		r, keep := renewing(t, f)
		var all []*session
		for id := range 50 {
			all = append(all, keep(LeaseID(id), 10*time.Second))
		}
		<-time.After(time.Minute)
		for id, s := range all {
			cause := context.Cause(s.ctx)
			switch id % 10 {
			case 3:
				require.ErrorIs(t, cause, ErrLeaseLost)
				require.ErrorIs(t, cause, ErrPermissionDenied)
			case 4:
				require.ErrorIs(t, cause, ErrLeaseNotFound)
			default:
				require.NoError(t, cause, id)
			}
		}
		end(r)
	})
}

func TestRenewalsOfNothingLeaveNoStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeRenewals{answer: func(_ int, id int64) (*pb.LeaseKeepAliveResponse, error) { return renewal(id, 10) }}
		r, keep := renewing(t, f)
		for range 3 {
			s := keep(1, 10*time.Second)
			_, err := r.once(t.Context(), &pb.LeaseKeepAliveRequest{ID: 2})
			require.NoError(t, err)
			s.end(errSessionClosed)
			<-time.After(3 * renewalLinger)
			synctest.Wait()
			require.False(t, r.running)
			r.conn.rpc.Wait()
		}
		require.EqualValues(t, 3, f.streams.Load())
	})
}

func TestSingleRenewalReportsWhatTheStreamSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := errors.New("broken")
		f := &fakeRenewals{answer: func(int, int64) (*pb.LeaseKeepAliveResponse, error) { return nil, failed }}
		r, _ := renewing(t, f)
		_, err := r.once(t.Context(), &pb.LeaseKeepAliveRequest{ID: 1})
		require.ErrorIs(t, err, failed)
		f.answer = func(int, int64) (*pb.LeaseKeepAliveResponse, error) { return nil, nil }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = r.once(ctx, &pb.LeaseKeepAliveRequest{ID: 1})
		require.ErrorIs(t, errs.OfContext(ctx), context.DeadlineExceeded)
		require.Error(t, err)
		end(r)
		_, err = r.once(t.Context(), &pb.LeaseKeepAliveRequest{ID: 1})
		require.Equal(t, errClosedStatus, err)
	})
}
