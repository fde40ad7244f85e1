// What can go wrong with a call, with what the mesh said about it.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace sensorium {

// A field of the request that is wrong.
struct Violation {
  std::string field;
  std::string description;
};

// A call that failed.
class Error : public std::runtime_error {
 public:
  // context: that of the call, which is over.
  Error(const grpc::Status& status, const grpc::ClientContext& context);

  grpc::StatusCode code() const { return code_; }
  // Name of the code on the wire, e.g. INVALID_ARGUMENT.
  const std::string& name() const { return name_; }
  // For programs, e.g. TOKEN_EXPIRED; empty where there is none.
  const std::string& reason() const { return reason_; }
  const std::vector<Violation>& violations() const { return violations_; }
  // When to try again.
  std::optional<std::chrono::milliseconds> retry_after() const { return retry_after_; }
  // What to ask the mesh's logs for; empty if the mesh was not reached.
  const std::string& request_id() const { return request_id_; }

 private:
  grpc::StatusCode code_;
  std::string name_;
  std::string reason_;
  std::vector<Violation> violations_;
  std::optional<std::chrono::milliseconds> retry_after_;
  std::string request_id_;
};

}  // namespace sensorium
