package etcd_test

import (
	"log"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/internal/memserver"
)

// exampleClient returns a client of an etcd that belongs to the example, and what ends
// both. A nil cfg means [etcd.DefaultConfig].
func exampleClient(cfg *etcd.Config) (client *etcd.Client, end func()) {
	return exampleClientOf(memserver.New(), cfg)
}

// exampleClientOf is exampleClient of a server that other clients may share.
func exampleClientOf(s *memserver.Server, cfg *etcd.Config) (client *etcd.Client, end func()) {
	endpoint, stop, err := s.Serve()
	if err != nil {
		log.Fatal(err)
	}
	if cfg == nil {
		cfg = etcd.DefaultConfig()
	}
	if client, err = etcd.NewClient(cfg.WithEndpoints(endpoint)); err != nil {
		log.Fatal(err)
	}
	return client, func() {
		_ = client.Close()
		stop()
	}
}
