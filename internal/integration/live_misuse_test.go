package integration

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/live"
)

func TestPanicOfAValidatorIsARefusal(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	commit(t, c, map[string]string{p + "name": "a"})
	v := liveOf[service](t, c, p, live.WithValidate(func(s *service) error {
		if s.Name == secret {
			panic(s.Name)
		}
		return nil
	}))
	refused := refusedAt(t, v, commit(t, c, map[string]string{p + "name": secret}))
	var panicked *live.PanicError
	require.ErrorAs(t, refused, &panicked)
	require.Equal(t, secret, panicked.Value)
	require.Contains(t, string(panicked.Stack), "live_misuse_test.go")
	require.NotContains(t, refused.Error(), secret)
	require.Equal(t, "a", v.Load().Name)
	commit(t, c, map[string]string{p + "name": "b"})
	served(t, v, func(s *service) bool { return s.Name == "b" })
	require.NoError(t, v.Err())
}

// While a validator blocks, the last good configuration is served and the refusal says
// why; what it says in the end counts, and then what has come meanwhile.
// Pointers that lead to nothing but themselves.
type (
	toItself *toItself
	toOther  *toFirst
	toFirst  *toOther
)

func TestTypeThatLeadsNowhereIsRefused(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	for name, open := range map[string]func() error{
		"itself":   func() error { return second(live.Open[struct{ A toItself }](t.Context(), c, "p/")) },
		"a circle": func() error { return second(live.Open[struct{ A struct{ B toOther } }](t.Context(), c, "p/")) },
		"a list":   func() error { return second(live.Open[struct{ A []toItself }](t.Context(), c, "p/")) },
		"document": func() error { return second(live.OpenDocument[struct{ A map[string]toFirst }](t.Context(), c, "p")) },
	} {
		requireRefused(t, o, name, etcd.ErrInvalidArgument, func() error {
			ended := make(chan error, 1)
			go func() { ended <- open() }()
			select {
			case err := <-ended:
				return err
			case <-within(t, patience).Done():
				return errors.New("never ends")
			}
		})
	}
}

func TestBlockedValidatorWedgesNothing(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	commit(t, c, map[string]string{p + "name": "a"})
	hold := map[string]chan struct{}{"good late": make(chan struct{}), "bad late": make(chan struct{})}
	var running, most atomic.Int64
	v := liveOf[service](t, c, p, live.WithValidateTimeout(time.Second), live.WithValidate(func(s *service) error {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		if wait := hold[s.Name]; wait != nil {
			<-wait
		}
		if s.Name == "bad late" {
			return errMarkedBad
		}
		return nil
	}))
	steps := stepsOf(within(t, patience), v)

	first := commit(t, c, map[string]string{p + "name": "good late"})
	require.ErrorIs(t, refusedAt(t, v, first), live.ErrValidateTimeout)
	require.Equal(t, "a", v.Load().Name)
	close(hold["good late"])
	require.Equal(t, "good late", next(t, steps).New.Name)
	require.Eventually(t, func() bool { return v.Err() == nil }, patience, time.Millisecond)

	second := commit(t, c, map[string]string{p + "name": "bad late"})
	require.ErrorIs(t, refusedAt(t, v, second), live.ErrValidateTimeout)
	third := commit(t, c, map[string]string{p + "name": "b"})
	require.ErrorIs(t, refusedAt(t, v, third), live.ErrValidateTimeout, "it waits for the one before")
	require.Equal(t, "good late", v.Load().Name)
	close(hold["bad late"])
	require.Equal(t, "b", next(t, steps).New.Name)
	require.Eventually(t, func() bool { return v.Err() == nil }, patience, time.Millisecond)
	require.EqualValues(t, 1, most.Load(), "one at a time")
}

func TestBlockedValidatorHoldsUpNeitherOpenNorClose(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	commit(t, c, map[string]string{p + "name": "a"})
	hold, over := make(chan struct{}), make(chan struct{}, 3)
	block := live.WithValidate(func(s *service) error {
		if s.Name != "good" {
			defer func() { over <- struct{}{} }()
			<-hold
		}
		return nil
	})
	_, err := live.Open[service](within(t, patience), c, p, block, live.WithValidateTimeout(10*time.Millisecond))
	var r *live.RejectedError
	require.ErrorAs(t, err, &r)
	require.ErrorIs(t, err, live.ErrValidateTimeout)

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := live.Open[service](ctx, c, p, block, live.WithValidateTimeout(patience))
		ended <- err
	}()
	cancel()
	require.ErrorIs(t, next(t, ended), context.Canceled)

	commit(t, c, map[string]string{p + "name": "good"})
	v := liveOf[service](t, c, p, block, live.WithValidateTimeout(time.Second))
	refusedAt(t, v, commit(t, c, map[string]string{p + "name": "a"}))
	v.Close()
	require.Equal(t, "good", v.Load().Name)
	close(hold)
	for range 2 { // the cancelled Open may have ended before its trial began
		next(t, over)
	}
}

func TestCloseFromInsideEndsEverything(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	for name, document := range map[string]bool{"prefix": false, "document": true} {
		commit(t, c, map[string]string{p + "name": "a", p: `{"name": "a"}`})
		open := live.Open[service]
		if document {
			open = live.OpenDocument[service]
		}
		var v *live.Value[service]
		closing := make(chan struct{}, 1)
		v, err := open(within(t, patience), c, p, live.WithValidate(func(s *service) error {
			if s.Name == "close" {
				v.Close()
				closing <- struct{}{}
			}
			return nil
		}))
		require.NoError(t, err, name)
		changes := v.Changes(t.Context())
		commit(t, c, map[string]string{p + "name": "b", p: `{"name": "b"}`})
		var got []live.Change[service]
		for change := range changes {
			if got = append(got, change); len(got) == 1 {
				v.Close()
			}
		}
		require.Len(t, got, 2, name)
		require.Equal(t, "b", got[0].New.Name)
		require.ErrorIs(t, got[1].Err, etcd.ErrClosed, name)
		require.Same(t, got[0].New, got[1].New)
		require.Equal(t, "b", v.Load().Name)
		require.ErrorIs(t, v.Status().Err(), etcd.ErrClosed)
		require.False(t, v.Status().Connected)
		v.Close()
		for change := range v.Changes(t.Context()) { // a later loop
			require.ErrorIs(t, change.Err, etcd.ErrClosed, name)
		}

		v, err = open(within(t, patience), c, p, live.WithValidate(func(s *service) error {
			if s.Name == "close" {
				v.Close() // from a function of the application
				closing <- struct{}{}
			}
			return nil
		}))
		require.NoError(t, err, name)
		commit(t, c, map[string]string{p + "name": "close", p: `{"name": "close"}`})
		next(t, closing)
		v.Close()
	}
}

func TestEndOfTheClientEndsItsConfigurations(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, err := etcd.NewClient(config(srv))
	require.NoError(t, err)
	p := prefix(t)
	commit(t, c, map[string]string{p + "name": "a", p: `{"name": "a"}`})
	var checks []func()
	for _, open := range []func(context.Context, *etcd.Client, string, ...live.Option) (*live.Value[service], error){
		live.Open[service], live.OpenDocument[service],
	} {
		v, err := open(within(t, patience), c, p)
		require.NoError(t, err)
		steps := stepsOf(within(t, patience), v)
		checks = append(checks, func() {
			require.ErrorIs(t, next(t, steps).Err, etcd.ErrClosed)
			closes(t, steps)
			require.Equal(t, "a", v.Load().Name)
			require.ErrorIs(t, v.Status().Cause, etcd.ErrClosed)
			v.Close()
		})
	}
	require.NoError(t, c.Close())
	for _, check := range checks {
		check()
	}
}

func TestLoopsOverChangesEndAndHoldUpNobody(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	commit(t, c, map[string]string{p + "server/port": "1"})
	v := liveOf[service](t, c, p)
	var none context.Context
	for change := range v.Changes(none) {
		require.ErrorIs(t, change.Err, etcd.ErrNilContext)
		require.Same(t, v.Load(), change.New)
		require.Empty(t, change.Fields)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slow, unread := v.Changes(ctx), v.Changes(ctx)
	_ = unread
	for port := 2; port <= 200; port++ {
		commit(t, c, map[string]string{p + "server/port": strconv.Itoa(port)})
	}
	served(t, v, func(s *service) bool { return s.Server.Port == 200 })
	for range 2 { // the same position for each loop
		for change := range slow {
			require.EqualValues(t, 1, change.Old.Server.Port)
			require.EqualValues(t, 200, change.New.Server.Port, "those between come as one")
			require.Equal(t, []string{"Server.Port"}, change.Fields)
			break
		}
	}
	// There and back is no change.
	back := v.Changes(ctx)
	commit(t, c, map[string]string{p + "server/port": "7"})
	served(t, v, func(s *service) bool { return s.Server.Port == 7 })
	commit(t, c, map[string]string{p + "server/port": "200"})
	served(t, v, func(s *service) bool { return s.Server.Port == 200 })
	commit(t, c, map[string]string{p + "name": "n"})
	for change := range back {
		if change.New.Name != "n" {
			continue
		}
		require.NotContains(t, change.Fields, "Server.Host")
		cancel()
	}
	for range slow {
		require.Fail(t, "a loop whose context has ended")
	}
}

// One bad key among thousands refuses the configuration, and is named alone.
func TestOneBadKeyAmongThousandsIsNamed(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	values := map[string][]byte{}
	for i := range 3000 {
		values[p+"limits/"+strconv.Itoa(i)] = []byte(strconv.Itoa(i))
	}
	require.NoError(t, c.BulkPut(t.Context(), values))
	v := liveOf[service](t, c, p)
	require.Len(t, v.Load().Limits, 3000)
	refused := refusedAt(t, v, commit(t, c, map[string]string{p + "limits/1234": "x"}))
	require.Equal(t, p+"limits/1234", refused.Key)
	var field *live.FieldError
	require.ErrorAs(t, refused, &field)
	require.ErrorIs(t, refused, etcd.ErrEncoding)
	require.Equal(t, 1234, v.Load().Limits["1234"])
}

func TestRejectionsAreToldAsTheyCome(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	commit(t, c, map[string]string{p + "server/port": "1"})
	v := liveOf[service](t, c, p)
	var none context.Context
	for r := range v.Rejections(none) {
		require.Fail(t, "a loop without a context", "%v", r)
	}
	told := make(chan *live.RejectedError)
	rejections, unread := v.Rejections(t.Context()), v.Rejections(t.Context())
	go func() {
		defer close(told)
		for r := range rejections {
			told <- r
		}
	}()
	for _, bad := range []string{"x", "y"} {
		revision := commit(t, c, map[string]string{p + "server/port": bad})
		require.Equal(t, revision, next(t, told).Revision)
		commit(t, c, map[string]string{p + "server/port": "1"})
		require.Eventually(t, func() bool { return v.Err() == nil }, patience, time.Millisecond)
	}
	last := commit(t, c, map[string]string{p + "server/port": "z"})
	require.Equal(t, last, next(t, told).Revision)
	for r := range unread { // the newest of those after the call
		require.Equal(t, last, r.Revision)
		break
	}
	v.Close()
	closes(t, told)
	for r := range v.Rejections(t.Context()) {
		require.Fail(t, "a loop over a closed value", "%v", r)
	}
}
