// Package discovery registers the instances of services and finds them: a registration
// outlives whatever happens to etcd, its lease or its key, and whoever looks for a service
// keeps what was last known of it while etcd is away.
//
//	r, err := discovery.Register(ctx, client, "cart", discovery.Instance{Address: "10.0.0.7:8080"})
//	if err != nil {
//		return err
//	}
//	…
//	r.Drain(ctx)             // no new calls
//	server.GracefulStop()    // those under way
//	r.Close(ctx)             // gone
//
// # What should I use?
//
//   - [Register] where a process serves, [Registration.Drain] and [Registration.Close] before
//     it stops;
//   - package grpcresolver for a client over gRPC: its target is "etcd:///cart";
//   - [Watch] for any other client: it has the instances in memory, and each change of them;
//   - [Instances] to look once.
//
// # What the library promises
//
//   - A registration is put again, within milliseconds where the servers can be reached, after
//     its lease was revoked or has expired, its key was deleted or overwritten by others, the
//     cluster was down or restored to an older revision, or the user's password has changed. It
//     tries for as long as it is open, with pauses of up to five seconds, and
//     [Registration.Status] says what is wrong.
//   - All registrations of a client share one lease for each time to live, and all that watch
//     a service share one mirror of it (see package mirror).
//   - Two instances with one id don't replace each other: the second one fails with
//     [ErrDuplicateInstance].
//   - A service without instances is reported at once and by name: [ErrUnknownService].
//   - An instance that can't be decoded hides no other.
//
// # What is stored
//
// An instance lies under the prefix ([DefaultPrefix]), the name of the service, a slash and its
// id; in both names whatever a URL would escape in a segment of its path is escaped, so that no
// name contains another's. The value is a JSON object, which the client encrypts like any other:
// "address", and where they are set "zone", "version", "weight", "metadata" and "draining";
// "registration" tells the registrations of one id apart. A key without a lease is an instance
// too, for what can't register itself; a registration of its id replaces it.
package discovery
