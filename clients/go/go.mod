module sensorium.dev/clients/go

go 1.19

require (
	google.golang.org/genproto/googleapis/api v0.0.0-20240318140521-94a12d6c2237
	google.golang.org/genproto/googleapis/rpc v0.0.0-20240318140521-94a12d6c2237
	google.golang.org/grpc v1.64.0
	google.golang.org/protobuf v1.34.1
	sensorium.dev/gen v0.0.0
)

// Made by `make build`.
replace sensorium.dev/gen => ./build/gen
