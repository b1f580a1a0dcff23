// Package etcdtest runs a real etcd server inside a test or a demo, as
// [net/http/httptest] does for HTTP. It needs no binary, container or fixed port.
//
// # What should I use?
//
// In a test, use [New]: the server is ready when it returns, and gone when the test is
// over.
//
//	func TestSettings(t *testing.T) {
//		s := etcdtest.New(t)
//		client := connect(s.Endpoints())
//		…
//	}
//
// Outside tests, use [Start] and [Server.Close].
//
// To see what the code under test does
//
//   - when the server goes away and comes back: [Server.Stop] and [Server.Restart];
//   - when the network fails: a [Proxy] between the two, or a [ClosedPort];
//   - when the server answers with an error, before or after it has executed the
//     request: an interceptor set by [WithGRPCServerOptions];
//   - when it may not log in, or not write: [WithAuth], [WithUser] and
//     [WithAuthTokenTTL];
//   - when certificates are wrong: [WithServerCertificate], [WithClientCertRequired],
//     [Server.ReplaceServerCertificate], and the authority itself, [CA];
//   - when it reaches a limit: [WithMaxTxnOps], [WithMaxRequestBytes] and [WithQuota];
//   - on the version of etcd that production runs: [WithBinary], or for a whole
//     suite the environment variable ETCDTEST_BINARY.
//
// # What a server is by default
//
// One member, one free port on 127.0.0.1, no TLS, no authentication, etcd's own limits,
// no log. It is fast instead of durable: heartbeats come every 10 ms and an election
// takes 100 ms ([WithTick]), so it is ready in about a tenth of a second and a lease may
// be as short as 1 s; and it doesn't sync to disk ([WithFsync]). It takes about 10 MB of
// disk, because the package shrinks the segments of etcd's log for the whole process.
//
// Any number of servers may run at once: give each test its own, and let the tests run in
// parallel. When you measure speed, state the settings.
package etcdtest
