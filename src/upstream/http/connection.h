// One connection to a server. Lives on one thread, its home.
#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <optional>

#include "async/task.h"
#include "async/time_limit.h"
#include "base/clock.h"
#include "base/status.h"
#include "upstream/http/url.h"

namespace cyllm {

// Why a connection is of no use any more: `reason` of UNAVAILABLE.
inline constexpr const char* kUnreachable = "upstream_unreachable";
inline constexpr const char* kClosed = "upstream_closed";
inline constexpr const char* kSilent = "upstream_silent";  // nothing until the limit

class ServerConnection {
 public:
  using Socket = boost::asio::generic::stream_protocol::socket;

  explicit ServerConnection(Executor home);
  ~ServerConnection();
  ServerConnection(const ServerConnection&) = delete;
  ServerConnection& operator=(const ServerConnection&) = delete;

  // `tls` where the URL says so; used during the call and as long as the connection lives.
  Task<Status> Open(const Url& url, boost::asio::ssl::context* tls, TimePoint until);
  Task<Status> Write(std::string_view head, std::string_view body, TimePoint until);
  // At least one byte; or UNAVAILABLE, kClosed at the orderly end too.
  Task<Result<size_t>> Read(char* data, size_t size, TimePoint until);

  // True when an idle connection cannot be used: the server has closed it, or said something unasked.
  bool Stale();

 private:
  Status Broken(const char* reason) const;

  const Executor home_;
  Socket socket_;
  std::optional<boost::asio::ssl::stream<Socket&>> tls_;
  TimeLimit limit_;
};

}  // namespace cyllm
