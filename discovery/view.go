package discovery

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/mirror"
)

// view is a service in memory, for all that watch it by one client. It has one goroutine, and
// that of its mirror. It ends when nobody has needed it for a while, or with the client.
type view struct {
	client  *etcd.Client
	service string
	place   string

	ctx    context.Context // ends with the view
	cancel context.CancelCauseFunc

	// The mu of views guards what follows.
	users int
	warm  time.Duration // how long it stays after the last one
	idle  *time.Timer   // ends it; nil while it is used

	// mu guards what follows. It is held for work in memory only.
	mu     sync.Mutex
	mirror *mirror.Typed[record] // nil until it is loaded
	now    *moment
	// held are instances that a restore has taken away, until one of their ID is registered
	// again or heldUntil.
	held      map[string]Instance
	heldUntil time.Time
	release   *time.Timer
}

// moment is what is known at one moment, and how the next one is noticed.
type moment struct {
	service Service
	err     error // why nothing is known
	loaded  bool
	over    chan struct{} // closed when there is a newer one
}

type viewKey struct {
	client *etcd.Client
	place  string
}

var views = struct {
	mu  sync.Mutex
	all map[viewKey]*view
}{all: map[viewKey]*view{}}

// viewOf returns the view of a service for one more user, who leaves it.
func viewOf(client *etcd.Client, service, place string, warm time.Duration) *view {
	views.mu.Lock()
	defer views.mu.Unlock()
	v := views.all[viewKey{client, place}]
	if v == nil {
		v = &view{client: client, service: service, place: place, now: &moment{over: make(chan struct{})}}
		v.ctx, v.cancel = context.WithCancelCause(context.Background())
		views.all[viewKey{client, place}] = v
		go v.run()
	}
	v.users++
	v.warm = max(v.warm, warm)
	if v.idle != nil {
		v.idle.Stop()
		v.idle = nil
	}
	return v
}

// leave takes back one viewOf.
func (v *view) leave() {
	views.mu.Lock()
	defer views.mu.Unlock()
	if v.users--; v.users > 0 {
		return
	}
	if v.warm == 0 {
		v.dropLocked(errClosed)
		return
	}
	v.idle = time.AfterFunc(v.warm, func() {
		views.mu.Lock()
		defer views.mu.Unlock()
		if v.users == 0 {
			v.dropLocked(errClosed)
		}
	})
}

// drop ends the view.
func (v *view) drop(why error) {
	views.mu.Lock()
	defer views.mu.Unlock()
	v.dropLocked(why)
}

// dropLocked is drop for those that hold the mu of views.
func (v *view) dropLocked(why error) {
	if key := (viewKey{v.client, v.place}); views.all[key] == v {
		delete(views.all, key)
	}
	if v.idle != nil {
		v.idle.Stop()
	}
	v.cancel(why)
}

// warmView returns a view that is loaded; nil if there is none.
func warmView(client *etcd.Client, place string) *view {
	views.mu.Lock()
	v := views.all[viewKey{client, place}]
	views.mu.Unlock()
	if v == nil || v.ctx.Err() != nil || !v.newest().loaded {
		return nil
	}
	return v
}

func (v *view) newest() *moment {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now
}

// fresh returns what is known when everything is that was acknowledged before the call. If that
// can't be had, it returns what is known together with the error.
func (v *view) fresh(ctx context.Context) (Service, error) {
	err := v.mirror.Fresh(ctx)
	v.show()
	return v.newest().service, err
}

// run loads the service and follows it, until the view ends.
func (v *view) run() {
	defer context.AfterFunc(v.client.Raw().Ctx(), func() { v.drop(etcd.ErrClosed) })()
	m := v.load()
	if m == nil {
		return
	}
	defer m.Close()
	changes := m.Changes(v.ctx)
	v.mu.Lock()
	v.mirror = m
	v.mu.Unlock()
	v.show()
	for c := range changes {
		switch {
		case c.Type == mirror.Ended:
			v.drop(c.Err)
		case !c.More:
			v.show()
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.release != nil {
		v.release.Stop()
	}
}

// load opens the mirror, however often that fails; nil if the view ends first.
func (v *view) load() *mirror.Typed[record] {
	for tries := 0; ; tries++ {
		m, err := mirror.OpenTyped(v.ctx, etcd.NewTypedWith(v.client, v.place, encoding{}))
		switch {
		case err == nil:
			return m
		case v.ctx.Err() != nil:
			return nil
		case errors.Is(err, etcd.ErrClosed):
			v.drop(err)
			return nil
		}
		v.mu.Lock()
		v.next(&moment{service: Service{Name: v.service}, err: as(opWatch, v.service, err)})
		v.mu.Unlock()
		if !pause(v.ctx, backoff(tries)) {
			return nil
		}
	}
}

// next has everybody see a moment, unless it is like the one before. v.mu is held.
func (v *view) next(m *moment) {
	before := v.now
	v.now = m
	if before.loaded && m.loaded && before.service.equal(m.service) {
		m.over = before.over
		return
	}
	m.over = make(chan struct{})
	close(before.over)
}

// show has everybody see what the mirror holds.
func (v *view) show() {
	v.mu.Lock()
	defer v.mu.Unlock()
	snapshot := v.mirror.Snapshot()
	before := v.now
	m := &moment{service: Service{Name: v.service, Revision: snapshot.Revision()}, loaded: true}
	for r := range snapshot.All() {
		m.service.add(v.place, r.Name, r.Value, nil)
	}
	for rest, err := range v.mirror.Bad() {
		m.service.add(v.place, rest, record{}, err)
	}
	v.hold(before, m)
	m.service.sort()
	v.next(m)
}

// restoreTime is how long instances are kept that a restore of the cluster has taken away: as
// long as their registrations may take to put them again.
const restoreTime = 30 * time.Second

// hold keeps the instances that a restore of the cluster has taken away: they run, and register
// again in a moment. v.mu is held.
func (v *view) hold(before, now *moment) {
	if before.loaded && now.service.Revision < before.service.Revision {
		if v.held == nil {
			v.held = map[string]Instance{}
		}
		for _, i := range before.service.Instances {
			v.held[i.ID] = i
		}
		v.heldUntil = time.Now().Add(restoreTime)
		if v.release != nil {
			v.release.Stop()
		}
		v.release = time.AfterFunc(restoreTime, v.show)
	}
	if time.Now().After(v.heldUntil) {
		v.held = nil
		return
	}
	for _, i := range now.service.Instances {
		delete(v.held, i.ID)
	}
	for i := range maps.Values(v.held) {
		now.service.Instances = append(now.service.Instances, i)
	}
}
