// Package etcdtest runs a real etcd server inside a test or a demo, as
// [net/http/httptest] does for HTTP. No binary, container or fixed port is
// needed.
//
// # What should I use?
//
// In a test, [New]: the server is ready when it returns, and gone when the test
// is over.
//
//	func TestSettings(t *testing.T) {
//		s := etcdtest.New(t)
//		client := connect(s.Endpoints())
//		…
//	}
//
// Outside tests, [Start] and [Server.Close].
//
// To see what the code under test does
//
//   - when the server goes away and comes back: [Server.Stop] and [Server.Restart];
//   - when the network fails: a [Proxy] between the two, or a [ClosedPort];
//   - when the server answers with an error, before or after it has carried the
//     request out: an interceptor set by [WithGRPCServerOptions];
//   - when it may not come in, or not write: [WithAuth], [WithUser] and
//     [WithAuthTokenTTL];
//   - when certificates are wrong: [WithServerCertificate], [WithClientCertRequired],
//     [Server.ReplaceServerCertificate], and the authority itself, [CA];
//   - when a limit is met: [WithMaxTxnOps], [WithMaxRequestBytes] and [WithQuota];
//   - on the version of etcd that production runs: [WithBinary], or for a whole
//     suite the environment variable ETCDTEST_BINARY.
//
// # What a server is by default
//
// One member, one port on 127.0.0.1 that is free, no TLS, no authentication,
// etcd's own limits, no log. It is fast instead of durable: heartbeats come
// every 10 ms and an election takes 100 ms ([WithTick]), so that it is ready in
// about a tenth of a second and a lease may be as short as 1 s; and it doesn't
// sync to disk ([WithFsync]). It takes about 10 MB of disk, which is why the
// package shrinks the segments of etcd's log for the whole process.
//
// Any number of servers may run at once: give each test its own, and let the
// tests be parallel. Whoever measures speed says which settings were in force.
package etcdtest
