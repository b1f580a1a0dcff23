package queue

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/blueprint-go/etcd"
)

// store is a queue without the type of its jobs.
type store struct {
	client *etcd.Client
	name   string
	layout
	options options
	stock   *stock
	room    *room

	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc
	tasks  sync.WaitGroup // the goroutines of the queue

	// consuming holds one value; whoever puts it in may change the consumer.
	consuming chan struct{}

	mu       sync.Mutex // guards what follows; never held over a request
	closed   bool
	last     int64 // the time in the newest ID
	consumer consumer
	looked   time.Time // when jobs of lost consumers were last looked for
}

// consumer is what claims hang on. Its fields are nil until they are needed.
type consumer struct {
	session *etcd.Session
	line    *etcd.Lock
}

// begin runs f in a goroutine of the queue, which Close waits for, with a context that ends
// with the queue; it reports false, and does nothing, if the queue is closed: then the leases have
// gone, or go.
func (q *store) begin(f func(ctx context.Context)) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.tasks.Go(func() { f(q.ctx) })
	}
	return !q.closed
}

func (q *store) close() error {
	q.mu.Lock()
	first := !q.closed
	q.closed = true
	q.mu.Unlock()
	q.cancel(errClosed)
	q.consuming <- struct{}{} // until a grant that is under way is over
	defer func() { <-q.consuming }()
	q.mu.Lock()
	c := q.consumer
	q.consumer = consumer{}
	q.mu.Unlock()
	var err error
	if first {
		err = q.part(c)
	}
	q.tasks.Wait()
	return err
}

const opClose = "close queue"

// part ends both leases of a consumer, at the same time: a server that is silent lets each request
// last for RequestTimeout.
func (q *store) part(c consumer) (err error) {
	var line error
	var parting sync.WaitGroup
	if c.line != nil {
		parting.Go(func() { line = c.line.Close() })
	}
	if c.session != nil {
		ctx := context.WithoutCancel(q.ctx)
		if err = c.session.Close(ctx); err == nil {
			ctx, cancel := context.WithTimeout(ctx, lastSuccession)
			defer cancel()
			err = q.succeed(ctx, c.session.Lease())
		}
	}
	parting.Wait()
	return q.as(opClose, err, line)
}

// lastSuccession bounds how long Close has jobs wait again once the lease is gone. If that is too
// short, others do it.
const lastSuccession = 2 * time.Second

// check returns why a call can't be made.
func (q *store) check(ctx context.Context) error {
	switch {
	case ctx == nil:
		return etcd.ErrNilContext
	case q.ctx.Err() != nil:
		return errClosed
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return nil
}

// session returns the session that claims hang on, and grants one if there is none, or if it
// was lost.
func (q *store) session(ctx context.Context) (*etcd.Session, error) {
	if s := q.current(); s != nil {
		return s, nil
	}
	if err := q.turn(ctx); err != nil {
		return nil, err
	}
	defer func() { <-q.consuming }()
	if s := q.current(); s != nil {
		return s, nil
	}
	s, err := q.client.NewSession(ctx, etcd.WithSessionTTL(q.options.visibility))
	if err != nil {
		return nil, err
	}
	if err := q.register(ctx, s); err != nil {
		q.dismiss(s)
		return nil, err
	}
	q.mu.Lock()
	lost := q.consumer.session
	q.consumer.session = s
	q.mu.Unlock()
	if lost != nil {
		q.dismiss(lost)
	}
	return s, nil
}

// forget gives up a session that the server doesn't know any more.
func (q *store) forget(s *etcd.Session) {
	q.mu.Lock()
	known := q.consumer.session == s
	if known {
		q.consumer.session = nil
	}
	q.mu.Unlock()
	if known {
		q.dismiss(s)
	}
}

// turn waits until nobody else changes the consumer.
func (q *store) turn(ctx context.Context) error {
	select {
	case q.consuming <- struct{}{}:
		if q.ctx.Err() != nil {
			<-q.consuming
			return errClosed
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-q.ctx.Done():
		return errClosed
	}
}

func (q *store) current() *etcd.Session {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.consumer.session; s != nil && s.Context().Err() == nil {
		return s
	}
	return nil
}

// dismiss has the lease of a lost session revoked, in the background: it may still live on the
// server, and then its jobs wait for its end.
func (q *store) dismiss(s *etcd.Session) {
	open := q.begin(func(ctx context.Context) {
		if s.Close(ctx) == nil { // otherwise the lease ends by itself
			_ = q.succeed(ctx, s.Lease()) // or somebody else does it
		}
	})
	if !open {
		_ = s.Close(q.ctx) // which has ended: the client revokes the lease in the background
	}
}

// line returns the lock behind which consumers wait that found nothing. It has a lease of its
// own: one that is shorter than the visibility, since a consumer that is paused at the head of
// the line keeps the others waiting for it.
func (q *store) line(ctx context.Context) (*etcd.Lock, error) {
	if err := q.turn(ctx); err != nil {
		return nil, err
	}
	defer func() { <-q.consuming }()
	q.mu.Lock()
	line := q.consumer.line
	q.mu.Unlock()
	if line != nil {
		return line, nil
	}
	line, err := q.client.NewLock(q.root+"line", etcd.WithLockTTL(lineTTL))
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	q.consumer.line = line
	q.mu.Unlock()
	return line, nil
}

// lineTTL is the time to live of a place in the line.
const lineTTL = 5 * time.Second

// newID returns an ID that is greater than all that this queue has made in this process.
func (q *store) newID(now time.Time) string {
	var chance [4]byte
	_, _ = rand.Read(chance[:]) // never fails, says its documentation
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last = max(now.UnixNano(), q.last+1)
	return fmt.Sprintf("%016x%08x", q.last, binary.BigEndian.Uint32(chance[:]))
}

// isTransient reports whether another try may succeed, or find out what became of the last.
func isTransient(err error) bool { return etcd.IsRetryable(err) || etcd.MaybeApplied(err) }
