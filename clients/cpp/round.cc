// Calls a running mesh once in every way that matters and prints what came back as one JSON object.
//
//     round PHOTO CLIP

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <iostream>
#include <iterator>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#include "mesh.h"

namespace {

using google::protobuf::ListValue;
using google::protobuf::Struct;
using google::protobuf::Value;
using sensorium::Mesh;
using Members = std::initializer_list<std::pair<const char*, Value>>;

Value text(const std::string& said) {
  Value value;
  value.set_string_value(said);
  return value;
}

Value number(double count) {
  Value value;
  value.set_number_value(count);
  return value;
}

Value truth(bool holds) {
  Value value;
  value.set_bool_value(holds);
  return value;
}

Value object(Members members) {
  Value value;
  for (const auto& [name, member] : members) (*value.mutable_struct_value()->mutable_fields())[name] = member;
  return value;
}

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

sensorium::vision::v1::ClassifyImageRequest about(const std::string& photo) {
  sensorium::vision::v1::ClassifyImageRequest request;
  request.add_images()->set_content(photo);
  return request;
}

Value classify(const Mesh& mesh, const std::string& photo) {
  auto request = about(photo);
  request.set_top_k(3);
  const auto reply = mesh.call(&sensorium::Vision::ClassifyImage, request);
  // One bad image does not fail the call: each result has a status of its own.
  const auto& result = reply.results(0);
  if (result.status().code() != 0) throw std::runtime_error(result.status().message());
  const auto& best = result.classifications(0);
  return object({{"label", text(best.label())},
                 {"score", number(best.score())},
                 {"model", text(reply.model().name())}});
}

sensorium::nlp::v1::EmbedTextResponse embed(const Mesh& mesh, std::initializer_list<const char*> texts) {
  sensorium::nlp::v1::EmbedTextRequest request;
  for (const char* each : texts) request.add_texts(each);
  return mesh.call(&sensorium::Nlp::EmbedText, request);
}

Value compare(const Mesh& mesh) {
  const auto reply = embed(mesh, {"A cat is sleeping on the sofa.", "The kitten naps on the couch.",
                                  "Interest rates rose again."});
  const auto values = [&](int i) -> const auto& { return reply.results(i).embedding().values(); };
  // The cosine: the mesh's embeddings have length 1.
  const auto dot = [&](int i, int j) {
    return std::inner_product(values(i).begin(), values(i).end(), values(j).begin(), 0.0);
  };
  return object(
      {{"dimensions", number(values(0).size())}, {"near", number(dot(0, 1))}, {"far", number(dot(0, 2))}});
}

Value transcribe(const Mesh& mesh, const std::string& clip) {
  sensorium::speech::v1::TranscribeRequest request;
  request.mutable_audio()->set_content(clip);
  return object({{"text", text(mesh.call(&sensorium::Speech::Transcribe, request).text())}});
}

Value count_models(const Mesh& mesh) {
  return number(
      mesh.call(&sensorium::Models::ListModels, sensorium::mesh::v1::ListModelsRequest()).models_size());
}

void add_input(inference::ModelInferRequest& request, const char* name,
               std::initializer_list<int64_t> values) {
  auto& input = *request.add_inputs();
  input.set_name(name);
  input.set_datatype("INT64");
  input.add_shape(1);
  input.add_shape(static_cast<int64_t>(values.size()));
  for (const int64_t value : values) input.mutable_contents()->add_int64_contents(value);
}

Value stream(const Mesh& mesh) {
  grpc::ClientContext context;
  mesh.prepare(context, std::chrono::seconds(60));
  const auto calls = mesh.stub<sensorium::Tensors>().ModelStreamInfer(&context);
  for (const char* id : {"a", "b", "c"}) {
    inference::ModelInferRequest request;
    request.set_model_name("minilm");
    request.set_id(id);
    add_input(request, "input_ids", {101, 4937, 102});
    add_input(request, "attention_mask", {1, 1, 1});
    // False means that the stream is over; Finish says why.
    if (!calls->Write(request)) break;
  }
  calls->WritesDone();
  Value ids;
  int errors = 0;
  inference::ModelStreamInferResponse reply;
  while (calls->Read(&reply)) {
    *ids.mutable_list_value()->add_values() = text(reply.infer_response().id());
    errors += !reply.error_message().empty();
  }
  if (const auto status = calls->Finish(); !status.ok()) throw sensorium::Error(status, context);
  return object({{"ids", ids}, {"errors", number(errors)}});
}

// What an error says of itself: its code, and where it names a field, that and the rest.
template <typename Call>
Value refusal(Call&& call) {
  try {
    call();
  } catch (const sensorium::Error& error) {
    if (error.violations().empty()) return object({{"code", text(error.name())}});
    return object({{"code", text(error.name())},
                   {"field", text(error.violations().front().field)},
                   {"reason", text(error.reason())},
                   {"requestId", truth(!error.request_id().empty())}});
  }
  return object({{"code", text("OK")}});
}

Value ask_flaky() {
  sensorium::Options options;
  if (const char* address = std::getenv("SENSORIUM_FLAKY_ADDRESS")) options.address = address;
  const auto reply = embed(Mesh(options), {"again"});
  return object({{"dimensions", number(reply.results(0).embedding().values_size())}});
}

Value round_trip(const std::string& photo, const std::string& clip) {
  const Mesh mesh;
  sensorium::Options without_token;
  without_token.token = "";
  auto unknown = about(photo);
  unknown.set_model("no-such-model");
  const auto classify_image = &sensorium::Vision::ClassifyImage;
  return object({
      {"photo", classify(mesh, photo)},
      {"sentence", compare(mesh)},
      {"clip", transcribe(mesh, clip)},
      {"models", count_models(mesh)},
      {"stream", stream(mesh)},
      {"noToken", refusal([&] { embed(Mesh(without_token), {"again"}); })},
      {"empty", refusal([&] { mesh.call(classify_image, {}); })},
      {"unknown", refusal([&] { mesh.call(classify_image, unknown); })},
      {"late", refusal([&] { mesh.call(classify_image, about(photo), std::chrono::milliseconds(1)); })},
      {"retried", ask_flaky()},
      {"client",
       object({{"language", text("cpp")},
               {"grpc", text(grpc::Version())},
               {"runtime", text("C++" + std::to_string(__cplusplus / 100 % 100) + ", " + __VERSION__)}})},
  });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: round PHOTO CLIP\n";
    return 2;
  }
  try {
    std::string json;
    google::protobuf::util::MessageToJsonString(round_trip(read(argv[1]), read(argv[2])), &json);
    std::cout << json << '\n';
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
