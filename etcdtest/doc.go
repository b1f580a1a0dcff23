// Package etcdtest runs a real etcd server inside a test or a demo.
package etcdtest
