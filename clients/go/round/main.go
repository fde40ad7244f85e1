// Command round calls a running mesh once in every way that matters and prints what came back as one JSON object.
//
//	round PHOTO CLIP
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	rpccode "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"sensorium.dev/clients/go/sensorium"
	meshv1 "sensorium.dev/gen/sensorium/mesh/v1"
	nlpv1 "sensorium.dev/gen/sensorium/nlp/v1"
	oipv2 "sensorium.dev/gen/sensorium/oip/v2"
	speechv1 "sensorium.dev/gen/sensorium/speech/v1"
	visionv1 "sensorium.dev/gen/sensorium/vision/v1"
)

type object map[string]interface{}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: round PHOTO CLIP")
		os.Exit(2)
	}
	rows, err := round(os.Args[1], os.Args[2])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(rows)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func round(photoPath, clipPath string) (object, error) {
	photo, err := os.ReadFile(photoPath)
	if err != nil {
		return nil, err
	}
	clip, err := os.ReadFile(clipPath)
	if err != nil {
		return nil, err
	}
	mesh, err := sensorium.Connect()
	if err != nil {
		return nil, err
	}
	defer mesh.Close()

	ctx := context.Background()
	images := []*visionv1.Image{{Content: photo}}
	rows := object{"client": object{"language": "go", "grpc": grpc.Version, "runtime": strings.TrimPrefix(runtime.Version(), "go")}}
	for _, row := range []struct {
		name string
		ask  func() (interface{}, error)
	}{
		{"photo", func() (interface{}, error) { return classify(ctx, mesh, images) }},
		{"sentence", func() (interface{}, error) { return compare(ctx, mesh) }},
		{"clip", func() (interface{}, error) {
			reply, err := mesh.Speech.Transcribe(ctx, &speechv1.TranscribeRequest{Audio: &speechv1.Audio{Content: clip}})
			return object{"text": reply.GetText()}, err
		}},
		{"models", func() (interface{}, error) {
			reply, err := mesh.Mesh.ListModels(ctx, &meshv1.ListModelsRequest{})
			return len(reply.GetModels()), err
		}},
		{"stream", func() (interface{}, error) { return stream(ctx, mesh) }},
		{"noToken", func() (interface{}, error) { return askWithoutToken(ctx) }},
		{"empty", func() (interface{}, error) {
			_, err := mesh.Vision.ClassifyImage(ctx, &visionv1.ClassifyImageRequest{})
			return explain(err)
		}},
		{"unknown", func() (interface{}, error) {
			_, err := mesh.Vision.ClassifyImage(ctx, &visionv1.ClassifyImageRequest{Model: "no-such-model", Images: images})
			return code(err), nil
		}},
		{"late", func() (interface{}, error) {
			soon, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			_, err := mesh.Vision.ClassifyImage(soon, &visionv1.ClassifyImageRequest{Images: images})
			return code(err), nil
		}},
		{"retried", func() (interface{}, error) { return askFlaky(ctx) }},
	} {
		if rows[row.name], err = row.ask(); err != nil {
			return nil, fmt.Errorf("%s: %w", row.name, err)
		}
	}
	return rows, nil
}

func classify(ctx context.Context, mesh *sensorium.Mesh, images []*visionv1.Image) (object, error) {
	reply, err := mesh.Vision.ClassifyImage(ctx, &visionv1.ClassifyImageRequest{Images: images, TopK: 3})
	if err != nil {
		return nil, err
	}
	// One bad image does not fail the call: each result has a status of its own.
	result := reply.Results[0]
	if err := status.ErrorProto(result.Status); err != nil {
		return nil, err
	}
	best := result.Classifications[0]
	return object{"label": best.Label, "score": best.Score, "model": reply.Model.Name}, nil
}

func compare(ctx context.Context, mesh *sensorium.Mesh) (object, error) {
	reply, err := mesh.Nlp.EmbedText(ctx, &nlpv1.EmbedTextRequest{Texts: []string{
		"A cat is sleeping on the sofa.", "The kitten naps on the couch.", "Interest rates rose again.",
	}})
	if err != nil {
		return nil, err
	}
	values := func(i int) []float32 { return reply.Results[i].Embedding.Values }
	return object{"dimensions": len(values(0)), "near": dot(values(0), values(1)), "far": dot(values(0), values(2))}, nil
}

// dot is the cosine: the mesh's embeddings have length 1.
func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

func stream(ctx context.Context, mesh *sensorium.Mesh) (object, error) {
	ctx, cancel := context.WithTimeout(ctx, sensorium.DefaultDeadline)
	defer cancel()
	calls, err := mesh.Tensors.ModelStreamInfer(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range []string{"a", "b", "c"} {
		if err := calls.Send(&oipv2.ModelInferRequest{ModelName: "minilm", Id: id, Inputs: []*oipv2.ModelInferRequest_InferInputTensor{
			int64s("input_ids", 101, 4937, 102), int64s("attention_mask", 1, 1, 1),
		}}); err != nil {
			return nil, err
		}
	}
	if err := calls.CloseSend(); err != nil {
		return nil, err
	}
	ids, failures := []string{}, 0
	for {
		reply, err := calls.Recv()
		if errors.Is(err, io.EOF) {
			return object{"ids": ids, "errors": failures}, nil
		}
		if err != nil {
			return nil, err
		}
		ids = append(ids, reply.GetInferResponse().GetId())
		if reply.ErrorMessage != "" {
			failures++
		}
	}
}

func int64s(name string, values ...int64) *oipv2.ModelInferRequest_InferInputTensor {
	return &oipv2.ModelInferRequest_InferInputTensor{
		Name: name, Datatype: "INT64", Shape: []int64{1, int64(len(values))},
		Contents: &oipv2.InferTensorContents{Int64Contents: values},
	}
}

func askWithoutToken(ctx context.Context) (object, error) {
	stranger, err := sensorium.Connect(sensorium.WithToken(""))
	if err != nil {
		return nil, err
	}
	defer stranger.Close()
	_, err = stranger.Nlp.EmbedText(ctx, &nlpv1.EmbedTextRequest{Texts: []string{"again"}})
	return code(err), nil
}

func askFlaky(ctx context.Context) (object, error) {
	address := os.Getenv("SENSORIUM_FLAKY_ADDRESS")
	if address == "" {
		address = os.Getenv("SENSORIUM_ADDRESS")
	}
	mesh, err := sensorium.Connect(sensorium.WithAddress(address))
	if err != nil {
		return nil, err
	}
	defer mesh.Close()
	reply, err := mesh.Nlp.EmbedText(ctx, &nlpv1.EmbedTextRequest{Texts: []string{"again"}})
	if err != nil {
		return nil, err
	}
	return object{"dimensions": len(reply.Results[0].Embedding.Values)}, nil
}

// explain is what an error says of itself.
func explain(err error) (object, error) {
	var failed *sensorium.Error
	if !errors.As(err, &failed) || len(failed.Violations) == 0 {
		return nil, fmt.Errorf("expected an error that names a field, got %v", err)
	}
	row := code(err)
	row["field"], row["reason"], row["requestId"] = failed.Violations[0].Field, failed.Reason, failed.RequestID != ""
	return row, nil
}

// code is the name on the wire; Go's own names are others.
func code(err error) object {
	return object{"code": rpccode.Code(status.Code(err)).String()}
}
