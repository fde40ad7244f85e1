// Package sensorium connects to a Sensorium mesh: address, token, deadline, retries, and errors with their details.
//
// The calls themselves are those of the generated stubs: every client of a Mesh is one.
package sensorium

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	meshv1 "sensorium.dev/gen/sensorium/mesh/v1"
	nlpv1 "sensorium.dev/gen/sensorium/nlp/v1"
	oipv2 "sensorium.dev/gen/sensorium/oip/v2"
	speechv1 "sensorium.dev/gen/sensorium/speech/v1"
	visionv1 "sensorium.dev/gen/sensorium/vision/v1"
	"sensorium.dev/gen/serviceconfig"
)

// DefaultDeadline is that of a call whose context has none. Streams have none.
const DefaultDeadline = 60 * time.Second

// Two large images and their reply fit; what a mesh accepts is its own matter (GetLimits).
const maxMessageBytes = 128 << 20

// Mesh is a connection with the clients of all services. It is safe for concurrent use; keep one for long.
type Mesh struct {
	Vision visionv1.VisionServiceClient
	Nlp    nlpv1.NlpServiceClient
	Speech speechv1.SpeechServiceClient
	Mesh   meshv1.MeshServiceClient
	// Tensors in, tensors out: the Open Inference Protocol.
	Tensors oipv2.GRPCInferenceServiceClient

	conn *grpc.ClientConn
}

type options struct {
	address  string
	token    *string
	roots    *x509.CertPool
	deadline time.Duration
}

// Option changes what Connect takes from the environment.
type Option func(*options)

// WithAddress names the mesh: host:port, http://host[:port] or https://host[:port]. Default: SENSORIUM_ADDRESS, else 127.0.0.1:8080.
func WithAddress(address string) Option { return func(o *options) { o.address = address } }

// WithToken sends this token; "" sends none. Default: SENSORIUM_TOKEN, else the file SENSORIUM_TOKEN_FILE, else, to this machine
// only, the one that `sensorium up` leaves in the state folder.
func WithToken(token string) Option { return func(o *options) { o.token = &token } }

// WithRootCertificates trusts these authorities instead of the system's.
func WithRootCertificates(roots *x509.CertPool) Option { return func(o *options) { o.roots = roots } }

// WithDeadline replaces DefaultDeadline.
func WithDeadline(deadline time.Duration) Option { return func(o *options) { o.deadline = deadline } }

// Connect makes a Mesh. It does not wait for the mesh: the first call connects.
func Connect(opts ...Option) (*Mesh, error) {
	o := options{address: os.Getenv("SENSORIUM_ADDRESS"), deadline: DefaultDeadline}
	for _, opt := range opts {
		opt(&o)
	}
	if err := checkRetries(); err != nil {
		return nil, err
	}
	target, secure, err := parseAddress(o.address)
	if err != nil {
		return nil, err
	}
	security := plaintext()
	if secure {
		security = grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(o.roots, ""))
	}
	conn, err := grpc.Dial(target,
		security,
		grpc.WithPerRPCCredentials(findToken(o.token, target)),
		grpc.WithDefaultServiceConfig(serviceconfig.JSON),
		grpc.WithUnaryInterceptor(finish(o.deadline)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)),
		// Finds a dead peer while a call waits. gRPC servers take three pings without data in five minutes for abuse.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 2 * time.Minute, Timeout: 20 * time.Second}),
		grpc.WithUserAgent("sensorium-go/0.1.0"),
	)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", target, err)
	}
	return &Mesh{
		Vision:  visionv1.NewVisionServiceClient(conn),
		Nlp:     nlpv1.NewNlpServiceClient(conn),
		Speech:  speechv1.NewSpeechServiceClient(conn),
		Mesh:    meshv1.NewMeshServiceClient(conn),
		Tensors: oipv2.NewGRPCInferenceServiceClient(conn),
		conn:    conn,
	}, nil
}

// Close ends the connection and the calls on it.
func (m *Mesh) Close() error { return m.conn.Close() }

// finish gives unary calls a deadline, and their errors the details that the mesh sent.
func finish(deadline time.Duration) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply interface{}, conn *grpc.ClientConn,
		invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if _, set := ctx.Deadline(); !set {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, deadline)
			defer cancel()
		}
		var header, trailer metadata.MD
		opts = append(opts, grpc.Header(&header), grpc.Trailer(&trailer))
		if err := invoke(ctx, method, request, reply, conn, opts...); err != nil {
			return fromStatus(err, header, trailer)
		}
		return nil
	}
}

// checkRetries fails where this gRPC would ignore the retry policy in silence: before 1.40 it is off unless the environment says so.
func checkRetries() error {
	var major, minor int
	if _, err := fmt.Sscanf(grpc.Version, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("version of gRPC: expected MAJOR.MINOR, got %q", grpc.Version)
	}
	if major == 1 && minor < 40 && !strings.EqualFold(os.Getenv("GRPC_GO_RETRY"), "on") {
		return fmt.Errorf("gRPC %s retries only if the process is started with GRPC_GO_RETRY=on; start it so, or take gRPC 1.40 or newer", grpc.Version)
	}
	return nil
}
