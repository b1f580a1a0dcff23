// Package integration tests package etcd on real servers that run in the test's
// own process, and measures parts of it. Package bench measures it beside clientv3.
package integration
