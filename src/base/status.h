// How anything fails here: a code (gRPC's), a sentence for people, and what machines need to react.
#pragma once

#include <chrono>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace cyllm {

// Numbers are gRPC's status codes.
enum class Code : int {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};

// "INVALID_ARGUMENT" etc.; "UNKNOWN" for numbers outside the table.
std::string_view CodeName(Code code);

// A value; copyable, comparable by content. Default: OK.
struct [[nodiscard]] Status {
  Code code = Code::kOk;
  std::string message;  // shown to clients: no addresses, no paths, no stacks
  std::string reason;   // machine-readable: model_not_found, context_length_exceeded, overloaded, loading...
  std::string param;    // the request field at fault, in the client's dialect
  std::chrono::milliseconds retry_after{0};
  bool retryable = false;  // another server, or this one later, may succeed

  bool ok() const { return code == Code::kOk; }
  bool operator==(const Status&) const = default;
  std::string ToString() const;  // "NOT_FOUND: no such model (model_not_found)", for logs

  static Status Ok() { return {}; }
};

inline Status MakeStatus(Code code, std::string message, std::string reason = {}, std::string param = {}) {
  return Status{code, std::move(message), std::move(reason), std::move(param), {}, false};
}
inline Status InvalidArgument(std::string message, std::string param = {}, std::string reason = {}) {
  return MakeStatus(Code::kInvalidArgument, std::move(message), std::move(reason), std::move(param));
}
// A refusal that another server, or this one later, may not repeat.
inline Status Unavailable(std::string message, std::string reason = {},
                          std::chrono::milliseconds retry_after = std::chrono::seconds(1)) {
  return Status{Code::kUnavailable, std::move(message), std::move(reason), {}, retry_after, true};
}

template <class T>
using Result = std::expected<T, Status>;

inline std::unexpected<Status> Err(Status status) { return std::unexpected<Status>(std::move(status)); }

}  // namespace cyllm
