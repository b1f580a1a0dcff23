package etcdtest

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// The settings of an etcd server for its own gRPC server, so that clients can't
// distinguish the front from it.
const (
	defaultRequestBytes = 1.5 * 1024 * 1024
	requestOverhead     = 512 * 1024
	minPingInterval     = 5 * time.Second
)

// front is a gRPC server in this process, in front of a member that is in another one,
// for the options of [WithGRPCServerOptions]. It forwards every request with its
// metadata, and every answer and status, unchanged. A method that the member doesn't know
// gets the member's own answer.
type front struct {
	behind *process
	rpc    *grpc.Server
	ended  chan struct{} // closed when rpc has stopped serving
}

// runFronted starts the program of s, and a front for it on addr.
func runFronted(s *Server, addr string) (member, error) {
	m, _, err := launch(func(inner string) (member, error) {
		return runProcess(s, clientURL("http", inner), clientURL(s.scheme(), addr))
	}, "127.0.0.1:0", portTimeout)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		m.stop()
		return nil, err
	}
	f := &front{behind: m.(*process), ended: make(chan struct{})}
	f.rpc = grpc.NewServer(f.options(s)...)
	services := pb.File_rpc_proto.Services()
	for i := range services.Len() {
		f.rpc.RegisterService(f.service(services.Get(i)), nil)
	}
	go func() {
		defer close(f.ended)
		_ = f.rpc.Serve(listener) // until stop
	}()
	return f, nil
}

func (f *front) options(s *Server) []grpc.ServerOption {
	maxRequest := s.settings.maxRequestBytes
	if maxRequest == 0 {
		maxRequest = defaultRequestBytes
	}
	opts := []grpc.ServerOption{
		grpc.WaitForHandlers(true),
		grpc.MaxRecvMsgSize(int(maxRequest) + requestOverhead),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingInterval}),
	}
	if s.identity != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(s.identity.serverConfig())))
	}
	return append(opts, s.settings.grpcOptions...)
}

func (f *front) stop() {
	f.rpc.Stop()
	<-f.ended
	f.behind.stop()
}

func (f *front) auth() pb.AuthClient { return f.behind.auth() }

// service returns a service whose methods forward their requests. The messages have their
// Go types, for interceptors to look at.
func (f *front) service(s protoreflect.ServiceDescriptor) *grpc.ServiceDesc {
	desc := &grpc.ServiceDesc{ServiceName: string(s.FullName())}
	for i := range s.Methods().Len() {
		m := s.Methods().Get(i)
		r := route{
			conn:     f.behind.conn,
			method:   "/" + desc.ServiceName + "/" + string(m.Name()),
			request:  goType(m.Input()),
			response: goType(m.Output()),
		}
		if !m.IsStreamingClient() && !m.IsStreamingServer() {
			desc.Methods = append(desc.Methods, grpc.MethodDesc{MethodName: string(m.Name()), Handler: r.unary})
			continue
		}
		desc.Streams = append(desc.Streams, grpc.StreamDesc{
			StreamName:    string(m.Name()),
			Handler:       r.stream,
			ClientStreams: m.IsStreamingClient(),
			ServerStreams: m.IsStreamingServer(),
		})
	}
	return desc
}

func goType(m protoreflect.MessageDescriptor) protoreflect.MessageType {
	t, err := protoregistry.GlobalTypes.FindMessageByName(m.FullName())
	if err != nil {
		panic(err) // the generated package registers all of its types
	}
	return t
}

// route is the way of one method through a front.
type route struct {
	conn              *grpc.ClientConn
	method            string
	request, response protoreflect.MessageType
}

func (r route) unary(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // the order is gRPC's
	req := r.request.New().Interface()
	if err := decode(req); err != nil {
		return nil, err
	}
	handle := func(ctx context.Context, req any) (any, error) {
		resp := r.response.New().Interface()
		if err := r.conn.Invoke(onward(ctx), r.method, req, resp); err != nil {
			return nil, err
		}
		return resp, nil
	}
	if intercept == nil {
		return handle(ctx, req)
	}
	return intercept(ctx, req, &grpc.UnaryServerInfo{FullMethod: r.method}, handle)
}

func (r route) stream(_ any, client grpc.ServerStream) error {
	server, err := r.conn.NewStream(onward(client.Context()), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, r.method)
	if err != nil {
		return err
	}
	go r.requests(client, server)
	for {
		resp := r.response.New().Interface()
		switch err := server.RecvMsg(resp); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := client.SendMsg(resp); err != nil {
			return err
		}
	}
}

// requests forwards the requests of a stream, until it ends on either side.
func (r route) requests(client grpc.ServerStream, server grpc.ClientStream) {
	for {
		req := r.request.New().Interface()
		if err := client.RecvMsg(req); err != nil {
			_ = server.CloseSend()
			return
		}
		if server.SendMsg(req) != nil {
			return // the stream's answer says why
		}
	}
}

// onward returns ctx for a request to the member, with the incoming metadata.
func onward(ctx context.Context) context.Context {
	md, _ := metadata.FromIncomingContext(ctx)
	return metadata.NewOutgoingContext(ctx, md)
}
