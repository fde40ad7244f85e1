#include "mesh.h"

#include <utility>

#include "service_config.h"

namespace sensorium {
namespace {

// Two large images and their reply fit; what a mesh accepts is its own matter (GetLimits).
constexpr int kMaxMessageBytes = 128 << 20;

std::shared_ptr<grpc::Channel> connect(const Address& address, const std::string& root_certificates) {
  grpc::ChannelArguments arguments;
  arguments.SetServiceConfigJSON(kServiceConfig);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 1);
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  // Finds a dead peer while a call waits. gRPC servers take three pings without data in five minutes for
  // abuse.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 120'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  arguments.SetUserAgentPrefix("sensorium-cpp/0.1.0");
  // No proxy of the environment stands between this machine and itself.
  if (address.is_loopback()) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = root_certificates;
  const auto credentials = address.secure ? grpc::SslCredentials(tls) : grpc::InsecureChannelCredentials();
  return grpc::CreateCustomChannel(address.target, credentials, arguments);
}

}  // namespace

Mesh::Mesh(Options options)
    : options_(std::move(options)),
      address_(Address::parse(options_.address)),
      token_(options_.token, address_) {
  const auto channel = connect(address_, options_.root_certificates);
  stubs_ = {vision::v1::VisionService::NewStub(channel), nlp::v1::NlpService::NewStub(channel),
            speech::v1::SpeechService::NewStub(channel), mesh::v1::MeshService::NewStub(channel),
            inference::GRPCInferenceService::NewStub(channel)};
}

void Mesh::prepare(grpc::ClientContext& context, std::chrono::milliseconds deadline) const {
  context.set_deadline(std::chrono::system_clock::now() + deadline);
  if (const auto token = token_.read(); !token.empty())
    context.AddMetadata("authorization", "Bearer " + token);
}

}  // namespace sensorium
