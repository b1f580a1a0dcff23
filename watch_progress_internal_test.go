package etcd

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func TestProgressIsTrustedWhereItComesInOrder(t *testing.T) {
	for version, want := range map[string]bool{
		"3.4.30": false, "3.4.31": true, "3.4.16": false, "3.5.12": false, "3.5.13": true, "3.5.21": true,
		"3.6.0": true, "3.7.3": true, "3.8.0-alpha.0": true, "4.0.0": true, "3.3.27": false,
		"": false, "3": false, "3.x.1": false, "2.9.9": false, "3.5": false,
	} {
		require.Equal(t, want, progressInOrder(version), version)
	}
}

// registeredOn returns a registration that the server made at a revision.
func registeredOn(s *watchStream, head int64) *registration {
	return &registration{stream: s, registered: true, head: head, serial: s.progress.register()}
}

func TestProgressCoversOnlyWhatWasRegisteredBefore(t *testing.T) {
	s := &watchStream{progress: progressLedger{trusted: true}}
	early := registeredOn(s, 10)
	require.True(t, s.progress.ask())
	late := registeredOn(s, 12)
	s.progress.told(12) // may have been said before late was registered
	require.EqualValues(t, 12, s.covers(early))
	require.Zero(t, s.covers(late))
	require.Zero(t, s.covers(&registration{stream: s}), "not registered yet")

	require.True(t, s.progress.ask())
	s.progress.told(12) // nothing has changed, and both were there
	require.EqualValues(t, 12, s.covers(late))

	require.True(t, s.progress.ask())
	newest := registeredOn(s, 12)
	require.True(t, s.progress.ask())
	require.True(t, s.progress.ask())
	s.progress.told(12) // perhaps to the first one
	require.Zero(t, s.covers(newest))
	s.progress.told(12) // to one of the others, since each has one answer at most
	require.EqualValues(t, 12, s.covers(newest))

	require.True(t, s.progress.ask())
	last := registeredOn(s, 12)
	s.progress.told(13) // newer than the registration, whatever was asked
	require.EqualValues(t, 13, s.covers(last))
}

func TestUnansweredRequestsForProgressTakeNoMemory(t *testing.T) {
	s := &watchStream{progress: progressLedger{trusted: true}}
	r := registeredOn(s, 10)
	for range 1000 {
		require.True(t, s.progress.ask())
	}
	require.Len(t, s.progress.open, 1)
	for range 1000 {
		s.progress.told(10)
	}
	require.Empty(t, s.progress.open)
	require.EqualValues(t, 10, s.covers(r))
}

func TestWishForProgressIsRepeatedLessAndLess(t *testing.T) {
	p := &progressLedger{trusted: true}
	p.want(7)
	now := time.Now()
	var pauses []time.Duration
	for range 10 {
		require.True(t, p.isDue(now))
		pause := p.wish.due.Sub(now)
		require.False(t, p.isDue(now.Add(pause-1)))
		pauses, now = append(pauses, pause), now.Add(pause)
	}
	require.Equal(t, firstProgressPause, pauses[0])
	require.Equal(t, 2*firstProgressPause, pauses[1])
	require.Equal(t, watchTick, pauses[9])
}

func TestDistantWishDelaysNoLaterOne(t *testing.T) {
	p := &progressLedger{trusted: true}
	p.want(1 << 40)
	now := time.Now()
	for p.wish.pause < watchTick {
		require.True(t, p.isDue(now))
		now = now.Add(time.Minute)
	}
	require.True(t, p.isDue(now))
	p.want(7)
	require.False(t, p.isDue(now.Add(firstProgressPause-1)), "however many come")
	require.True(t, p.isDue(now.Add(firstProgressPause)))
	require.EqualValues(t, 1<<40, p.wish.revision)
}

func TestProgressOfOldServersIsIgnored(t *testing.T) {
	s := &watchStream{}
	r := registeredOn(s, 10)
	require.False(t, s.progress.ask())
	s.progress.told(20)
	require.Zero(t, s.covers(r))
}

func TestHistoryKnowsItsClusterAndItsEnd(t *testing.T) {
	header := func(cluster uint64, revision int64) *pb.ResponseHeader {
		return &pb.ResponseHeader{ClusterId: cluster, Revision: revision}
	}
	var h history
	require.False(t, h.contradicts(header(1, 5)), "nothing is known yet")
	h.cluster = 1
	h.saw(7)
	require.False(t, h.contradicts(header(1, 7)))
	require.True(t, h.contradicts(header(1, 6)))
	require.True(t, h.contradicts(header(2, 9)))
	require.False(t, h.contradicts(header(0, 9)), "a proxy that names no cluster")
}
