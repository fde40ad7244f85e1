// A connection to a Sensorium mesh: address, token, deadline, retries, and errors with their details.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <tuple>

#include "address.h"
#include "error.h"
#include "sensorium/mesh/v1/mesh_service.grpc.pb.h"
#include "sensorium/nlp/v1/nlp_service.grpc.pb.h"
#include "sensorium/oip/v2/inference.grpc.pb.h"
#include "sensorium/speech/v1/speech_service.grpc.pb.h"
#include "sensorium/vision/v1/vision_service.grpc.pb.h"

namespace sensorium {

using Vision = vision::v1::VisionService::Stub;
using Nlp = nlp::v1::NlpService::Stub;
using Speech = speech::v1::SpeechService::Stub;
using Models = mesh::v1::MeshService::Stub;
// Tensors in, tensors out: the Open Inference Protocol.
using Tensors = inference::GRPCInferenceService::Stub;

// What differs from the environment; see address.h for address and token.
struct Options {
  std::string address;
  std::optional<std::string> token;
  // PEM, for a mesh whose certificate is of a private authority; empty means the system's.
  std::string root_certificates;
  // Of a call that says nothing else.
  std::chrono::milliseconds deadline = std::chrono::seconds(60);
};

// Safe for concurrent use; keep one for long. It does not wait for the mesh: the first call connects.
class Mesh {
 public:
  // Throws std::invalid_argument for an address that is none.
  explicit Mesh(Options options = {});

  // One unary call: mesh.call(&Vision::ClassifyImage, request). Throws Error.
  template <typename Stub, typename Request, typename Reply>
  Reply call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Reply*),
             const Request& request, std::optional<std::chrono::milliseconds> deadline = std::nullopt) const {
    grpc::ClientContext context;
    prepare(context, deadline.value_or(options_.deadline));
    Reply reply;
    const grpc::Status status = (stub<Stub>().*method)(&context, request, &reply);
    if (!status.ok()) throw Error(status, context);
    return reply;
  }

  // The stub of one service, for streams and asynchronous calls; their contexts are to be prepared.
  template <typename Stub>
  Stub& stub() const {
    return *std::get<std::unique_ptr<Stub>>(stubs_);
  }

  // Puts token and deadline into the context of a call.
  void prepare(grpc::ClientContext& context, std::chrono::milliseconds deadline) const;

 private:
  Options options_;
  Address address_;
  Token token_;
  std::tuple<std::unique_ptr<Vision>, std::unique_ptr<Nlp>, std::unique_ptr<Speech>, std::unique_ptr<Models>,
             std::unique_ptr<Tensors>>
      stubs_;
};

}  // namespace sensorium
