package dev.sensorium.round;

import com.google.gson.Gson;
import com.google.protobuf.ByteString;
import dev.sensorium.client.ErrorDetails;
import dev.sensorium.client.Mesh;
import dev.sensorium.mesh.v1.ListModelsRequest;
import dev.sensorium.nlp.v1.EmbedTextRequest;
import dev.sensorium.nlp.v1.EmbedTextResponse;
import dev.sensorium.oip.v2.InferTensorContents;
import dev.sensorium.oip.v2.ModelInferRequest;
import dev.sensorium.oip.v2.ModelInferRequest.InferInputTensor;
import dev.sensorium.oip.v2.ModelStreamInferResponse;
import dev.sensorium.speech.v1.Audio;
import dev.sensorium.speech.v1.TranscribeRequest;
import dev.sensorium.vision.v1.Classification;
import dev.sensorium.vision.v1.ClassifyImageRequest;
import dev.sensorium.vision.v1.ClassifyImageResponse;
import dev.sensorium.vision.v1.ClassifyImageResult;
import dev.sensorium.vision.v1.Image;
import io.grpc.StatusRuntimeException;
import io.grpc.internal.GrpcUtil;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** Calls a running mesh once in every way that matters and prints what came back as one JSON object. */
public final class Round {
  private Round() {}

  /** Arguments: a photo and a clip. */
  public static void main(String[] arguments) throws Exception {
    if (arguments.length != 2) {
      System.err.println("usage: Round PHOTO CLIP");
      System.exit(2);
    }
    System.out.println(new Gson().toJson(ask(read(arguments[0]), read(arguments[1]))));
  }

  private static ByteString read(String path) throws IOException {
    return ByteString.copyFrom(Files.readAllBytes(Path.of(path)));
  }

  private static Map<String, Object> ask(ByteString photo, ByteString clip) throws Exception {
    ClassifyImageRequest request =
        ClassifyImageRequest.newBuilder().addImages(Image.newBuilder().setContent(photo)).build();
    Map<String, Object> rows = new LinkedHashMap<>();
    try (Mesh mesh = Mesh.connect(); Mesh stranger = Mesh.builder().token("").connect();
         Mesh flaky = Mesh.builder().address(System.getenv("SENSORIUM_FLAKY_ADDRESS")).connect()) {
      rows.put("photo", classify(mesh, request.toBuilder().setTopK(3).build()));
      rows.put("sentence", compare(mesh));
      rows.put("clip", transcribe(mesh, clip));
      rows.put("models", mesh.models().listModels(ListModelsRequest.getDefaultInstance()).getModelsCount());
      rows.put("stream", stream(mesh));
      rows.put("noToken", refusal(() -> embed(stranger, "again")));
      rows.put(
          "empty", refusal(() -> mesh.vision().classifyImage(ClassifyImageRequest.getDefaultInstance())));
      rows.put("unknown",
          refusal(() -> mesh.vision().classifyImage(request.toBuilder().setModel("no-such-model").build())));
      rows.put("late",
          refusal(() -> mesh.vision().withDeadlineAfter(1, TimeUnit.MILLISECONDS).classifyImage(request)));
      rows.put("retried",
          Map.of("dimensions", embed(flaky, "again").getResults(0).getEmbedding().getValuesCount()));
    }
    rows.put("client",
        Map.of("language", "java", "grpc", GrpcUtil.getGrpcBuildVersion().getImplementationVersion(),
            "runtime", Runtime.version().toString()));
    return rows;
  }

  private static Map<String, Object> classify(Mesh mesh, ClassifyImageRequest request) {
    ClassifyImageResponse reply = mesh.vision().classifyImage(request);
    // One bad image does not fail the call: each result has a status of its own.
    ClassifyImageResult result = reply.getResults(0);
    if (result.getStatus().getCode() != 0) {
      throw new IllegalArgumentException(result.getStatus().getMessage());
    }
    Classification best = result.getClassifications(0);
    return Map.of("label", best.getLabel(), "score", best.getScore(), "model", reply.getModel().getName());
  }

  private static EmbedTextResponse embed(Mesh mesh, String... texts) {
    return mesh.nlp().embedText(EmbedTextRequest.newBuilder().addAllTexts(List.of(texts)).build());
  }

  private static Map<String, Object> compare(Mesh mesh) {
    EmbedTextResponse reply = embed(mesh, "A cat is sleeping on the sofa.", "The kitten naps on the couch.",
        "Interest rates rose again.");
    List<List<Float>> vectors =
        reply.getResultsList().stream().map(result -> result.getEmbedding().getValuesList()).toList();
    return Map.of("dimensions", vectors.get(0).size(), "near", dot(vectors.get(0), vectors.get(1)), "far",
        dot(vectors.get(0), vectors.get(2)));
  }

  /** The cosine: the mesh's embeddings have length 1. */
  private static double dot(List<Float> left, List<Float> right) {
    double sum = 0;
    for (int i = 0; i < left.size(); i++) {
      sum += (double) left.get(i) * right.get(i);
    }
    return sum;
  }

  private static Map<String, Object> transcribe(Mesh mesh, ByteString clip) {
    TranscribeRequest request =
        TranscribeRequest.newBuilder().setAudio(Audio.newBuilder().setContent(clip)).build();
    return Map.of("text", mesh.speech().transcribe(request).getText());
  }

  private static Map<String, Object> stream(Mesh mesh) throws Exception {
    CompletableFuture<Void> over = new CompletableFuture<>();
    List<String> ids = new ArrayList<>();
    List<String> errors = new ArrayList<>();
    StreamObserver<ModelInferRequest> calls =
        mesh.tensors()
            .withDeadlineAfter(Mesh.DEFAULT_DEADLINE.toSeconds(), TimeUnit.SECONDS)
            .modelStreamInfer(new StreamObserver<>() {
              @Override
              public void onNext(ModelStreamInferResponse reply) {
                ids.add(reply.getInferResponse().getId());
                if (!reply.getErrorMessage().isEmpty()) {
                  errors.add(reply.getErrorMessage());
                }
              }

              @Override
              public void onError(Throwable error) {
                over.completeExceptionally(error);
              }

              @Override
              public void onCompleted() {
                over.complete(null);
              }
            });
    for (String id : List.of("a", "b", "c")) {
      calls.onNext(ModelInferRequest.newBuilder()
                       .setModelName("minilm")
                       .setId(id)
                       .addInputs(input("input_ids", 101L, 4937L, 102L))
                       .addInputs(input("attention_mask", 1L, 1L, 1L))
                       .build());
    }
    calls.onCompleted();
    over.get();
    return Map.of("ids", ids, "errors", errors.size());
  }

  private static InferInputTensor input(String name, Long... values) {
    return InferInputTensor.newBuilder()
        .setName(name)
        .setDatatype("INT64")
        .addShape(1)
        .addShape(values.length)
        .setContents(InferTensorContents.newBuilder().addAllInt64Contents(List.of(values)))
        .build();
  }

  /** What an error says of itself: its code, and where it names a field, that and the rest. */
  private static Map<String, Object> refusal(Runnable call) {
    try {
      call.run();
    } catch (StatusRuntimeException error) {
      ErrorDetails details = ErrorDetails.of(error);
      String code = details.code().name();
      if (details.violations().isEmpty()) {
        return Map.of("code", code);
      }
      return Map.of("code", code, "field", details.violations().get(0).field(), "reason", details.reason(),
          "requestId", !details.requestId().isEmpty());
    }
    return Map.of("code", "OK");
  }
}
