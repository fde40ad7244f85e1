// Where the mesh is and who asks: address and token, from what was given, the environment, or the state
// folder.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace sensorium {

// Where an address leads, as gRPC takes it.
struct Address {
  std::string target;
  bool secure = false;

  // Reads host:port, http://host[:port] or https://host[:port]; empty means SENSORIUM_ADDRESS, else
  // 127.0.0.1:8080. Throws std::invalid_argument.
  static Address parse(std::string text);

  bool is_loopback() const;
};

// What is sent with every call: a text, or the content of a file that may be replaced meanwhile.
class Token {
 public:
  // given: sent as it is; "" sends none. Nothing given: SENSORIUM_TOKEN, else the file SENSORIUM_TOKEN_FILE,
  // else the one that `sensorium up` leaves in the state folder, which is only ever sent to this machine.
  Token(const std::optional<std::string>& given, const Address& address);

  // The token now; empty sends none. Throws std::runtime_error if its file cannot be read.
  std::string read() const;

 private:
  std::string text_;
  std::filesystem::path file_;
};

}  // namespace sensorium
