// Package integration tests package etcd on real servers that run in the test's
// own process, and measures it beside clientv3.
package integration
