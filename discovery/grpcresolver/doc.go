// Package grpcresolver has gRPC find the instances of a service by package discovery:
//
//	conn, err := grpc.NewClient("etcd:///cart",
//		grpc.WithResolvers(grpcresolver.NewBuilder(client)),
//		grpc.WithTransportCredentials(creds))
//
// The target's path is the name of the service. Register its instances by
// [discovery.Register], with an address that gRPC dials.
//
// What the library promises:
//
//   - While etcd is away, or refuses, a connection keeps the instances that it knows. Calls fail
//     for want of an instance only if none was ever found, or none is registered; the error
//     names the service and the reason, and comes at once where etcd answers. (Calls that wait
//     for ready don't fail then.)
//   - A connection that gRPC has put to sleep ([grpc.WithIdleTimeout]) wakes up with its
//     instances, without a request to etcd, if that is within [WithWarm]. All connections of a
//     client to one service share one mirror of it.
//   - An instance that drains gets no new calls while there are others. If all drain, they get
//     them: each serves until it stops.
//
// Calls are spread by round_robin; [WithPolicy] chooses another policy and [WithServiceConfig] a
// whole service config. An endpoint has the weight of its instance, which ring_hash_experimental
// heeds and round_robin doesn't, its ID as the key of its place on that ring, and all of the
// instance for policies of your own: [InstanceOf].
package grpcresolver
