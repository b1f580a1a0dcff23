//go:build proxies

package integration

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"

	"github.com/blueprint-go/etcd"
)

var studyRuns = flag.Int("study.runs", 1, "how often the loss of members behind each program is gone through")

const (
	studyKills  = 10              // members, one after the other
	studyPeriod = 3 * time.Second // between two of them, half of it without the member
	studyGrace  = 30 * time.Second
	studyLocks  = 10
	studyEvents = 100
	studyTTL    = 15 * time.Second
)

// study is what came of one run, for this package and for clientv3.
type study struct {
	lost, lostByV3       int           // locks
	missing, missingByV3 int           // acknowledged events, after the grace
	behind, behindV3     time.Duration // from the end of the load until all events had come
}

// Locks with a TTL of 15 s and watches, of this package and of clientv3, go by the same
// program to a cluster whose members are killed in turn.
func TestProxiedLocksAndWatchesSurviveKilledMembers(t *testing.T) {
	for run := range *studyRuns {
		t.Run(fmt.Sprint("run ", run+1), func(t *testing.T) {
			for _, kind := range append([]middleboxKind{{name: "nothing"}}, middleboxKinds...) {
				t.Run(kind.name, func(t *testing.T) {
					t.Parallel()
					s := studyKilledMembers(t, kind)
					t.Logf("%-11s locks lost: %d, clientv3 %d, of %d; events missing: %d, clientv3 %d, of %d; all events after %v, clientv3 %v",
						kind.name, s.lost, s.lostByV3, studyLocks, s.missing, s.missingByV3, studyEvents,
						s.behind.Round(time.Millisecond), s.behindV3.Round(time.Millisecond))
					require.Zero(t, s.missing, "events")
					require.LessOrEqual(t, s.lost, s.lostByV3, "locks")
				})
			}
		})
	}
}

func studyKilledMembers(t *testing.T, kind middleboxKind) (s study) {
	t.Helper()
	cluster := newCluster(t)
	endpoints := cluster.addrs()
	if kind.configure != nil {
		endpoints = []string{newMiddlebox(t, kind, endpoints, settings{}).addr}
	}
	c := client(t, etcd.DefaultConfig().WithEndpoints(endpoints...))
	raw, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, Logger: zap.NewNop(),
		DialKeepAliveTime: etcd.DefaultKeepAliveInterval, DialKeepAliveTimeout: etcd.DefaultKeepAliveTimeout,
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = raw.Close() }) // says that it was closed
	p := prefix(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	watched := followKeys(func(seen func(key string)) {
		for r := range c.WatchPrefix(ctx, p+"event/") {
			for _, e := range r.Events {
				seen(e.Kv.Key)
			}
		}
	})
	watchedByV3 := followKeys(func(seen func(key string)) {
		for r := range raw.Watch(clientv3.WithRequireLeader(ctx), p+"event/", clientv3.WithPrefix()) {
			for _, e := range r.Events {
				seen(string(e.Kv.Key))
			}
		}
	})
	defer func() {
		cancel()
		<-watched.ended
		<-watchedByV3.ended
	}()
	var held []<-chan struct{}
	var heldByV3 []<-chan struct{}
	for i := range studyLocks {
		l := newLock(t, c, fmt.Sprint(p, "lock/", i), etcd.WithLockTTL(studyTTL))
		require.NoError(t, l.Lock(within(t, busyTimeout)))
		held = append(held, l.Context().Done())
		session, err := concurrency.NewSession(raw, concurrency.WithTTL(int(studyTTL/time.Second)))
		require.NoError(t, err)
		require.NoError(t, concurrency.NewMutex(session, fmt.Sprint(p, "v3/", i)).Lock(ctx))
		heldByV3 = append(heldByV3, session.Done())
	}

	acknowledged := writeEvents(ctx, cluster, p+"event/")
	for i := range studyKills {
		victim := cluster.members[i%clusterSize]
		victim.kill()
		<-time.After(studyPeriod / 2) // the time is what is studied
		victim.start()
		<-time.After(studyPeriod / 2)
	}
	keys := <-acknowledged
	ended := time.Now()
	for time.Since(ended) < studyGrace {
		s.missing, s.missingByV3 = watched.missing(keys), watchedByV3.missing(keys)
		if s.missing > 0 {
			s.behind = time.Since(ended)
		}
		if s.missingByV3 > 0 {
			s.behindV3 = time.Since(ended)
		}
		// A lock is given the TTL in which its lease ends.
		if s.missing+s.missingByV3 == 0 && time.Since(ended) > studyTTL {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	s.lost, s.lostByV3 = closed(held), closed(heldByV3)
	return s
}

// writeEvents puts keys under p, not by the program, spread over the time of the
// kills. The channel gets those that were acknowledged.
func writeEvents(ctx context.Context, cluster *cluster, p string) <-chan []string {
	done := make(chan []string, 1)
	go func() {
		var keys []string
		pace := time.NewTicker(studyKills * studyPeriod / studyEvents)
		defer pace.Stop()
		for i := 0; len(keys) < studyEvents && ctx.Err() == nil; i++ {
			key := fmt.Sprintf("%s%04d", p, i)
			once, cancel := context.WithTimeout(ctx, 2*time.Second)
			if _, err := cluster.direct.Put(once, key, ""); err == nil {
				keys = append(keys, key)
			}
			cancel()
			<-pace.C
		}
		done <- keys
	}()
	return done
}

// keysSeen are the keys that a watch has delivered.
type keysSeen struct {
	ended chan struct{}
	mu    sync.Mutex
	keys  map[string]bool
}

func followKeys(watch func(seen func(key string))) *keysSeen {
	k := &keysSeen{ended: make(chan struct{}), keys: map[string]bool{}}
	go func() {
		defer close(k.ended)
		watch(func(key string) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.keys[key] = true
		})
	}()
	return k
}

// missing returns how many keys have not been seen.
func (k *keysSeen) missing(keys []string) (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range keys {
		if !k.keys[key] {
			n++
		}
	}
	return n
}

func closed(all []<-chan struct{}) (n int) {
	for _, c := range all {
		select {
		case <-c:
			n++
		default:
		}
	}
	return n
}
