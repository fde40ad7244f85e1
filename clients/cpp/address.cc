#include "address.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <regex>
#include <stdexcept>
#include <utility>

namespace sensorium {
namespace {

constexpr char kDefaultAddress[] = "127.0.0.1:8080";

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string stripped(const std::string& text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::filesystem::path state_folder() {
  if (const auto folder = environment("SENSORIUM_STATE_DIR"); !folder.empty()) return folder;
  if (const auto folder = environment("XDG_STATE_HOME"); !folder.empty())
    return std::filesystem::path(folder) / "sensorium";
  return std::filesystem::path(environment("HOME")) / ".local" / "state" / "sensorium";
}

}  // namespace

Address Address::parse(std::string text) {
  static const std::regex form(R"((?:(https?)://)?(\[[0-9A-Fa-f:.]+\]|[^/:@?#\[\]\s]+)(?::(\d{1,5}))?/?)");
  if (text.empty()) text = environment("SENSORIUM_ADDRESS");
  if (text.empty()) text = kDefaultAddress;
  std::smatch parts;
  if (!std::regex_match(text, parts, form) || (!parts[1].matched && !parts[3].matched))
    throw std::invalid_argument("address: expected host:port, http://… or https://…, got " + text);
  const bool secure = parts[1] == "https";
  const std::string port = parts[3].matched ? parts[3].str() : secure ? "443" : "80";
  return {parts[2].str() + ":" + port, secure};
}

bool Address::is_loopback() const {
  static const std::regex loopback(R"((127(\.\d{1,3}){3}|localhost|\[::1\]):\d+)");
  return std::regex_match(target, loopback);
}

Token::Token(const std::optional<std::string>& given, const Address& address) {
  if (given) {
    text_ = stripped(*given);
  } else if (const auto text = environment("SENSORIUM_TOKEN"); !text.empty()) {
    text_ = stripped(text);
  } else if (const auto file = environment("SENSORIUM_TOKEN_FILE"); !file.empty()) {
    file_ = file;
  } else if (const auto own = state_folder() / "token";
             address.is_loopback() && std::filesystem::is_regular_file(own)) {
    file_ = own;
  }
}

std::string Token::read() const {
  if (file_.empty()) return text_;
  std::ifstream file(file_, std::ios::binary);
  if (!file) throw std::runtime_error("token: cannot read " + file_.string());
  return stripped({std::istreambuf_iterator<char>(file), {}});
}

}  // namespace sensorium
