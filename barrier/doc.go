// Package barrier holds processes back in etcd: until one of them opens the way ([Barrier]), or
// until a number of them have come, and later have gone ([Double]).
//
//	b, err := barrier.New(client, "/jobs/import")
//	…
//	err = b.Hold(ctx)    // from now on others wait
//	…                    // prepare what they need
//	err = b.Release(ctx) // they go on
//
// and in the others
//
//	err = b.Wait(ctx)
//
// Whoever holds a barrier, or has entered a double one, hangs on a lease that is kept alive. Its
// loss is told: to its owner on a context, and to those who wait. A barrier whose holder died is
// not open, since what they wait for was not done: [Barrier.Wait] fails with [ErrHolderLost].
//
// The keys lie under the name and a byte 1, which no name contains. They have no value.
package barrier
