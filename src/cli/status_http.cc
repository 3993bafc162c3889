#include "cli/status_http.h"

#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "cli/settings/address.h"

namespace cyllm {
namespace {

constexpr size_t kMaxRequest = 8 << 10;
constexpr size_t kMaxConnections = 64;  // beyond: the oldest makes room
constexpr Millis kPatience{5'000};      // for a whole exchange

struct FileDescriptor {
  FileDescriptor() = default;
  explicit FileDescriptor(int number) : fd(number) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd(std::exchange(other.fd, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd, other.fd);
    return *this;
  }
  ~FileDescriptor() {
    if (fd >= 0) close(fd);
  }
  int fd = -1;
};

struct Connection {
  FileDescriptor socket;
  TimePoint deadline;
  std::string in, out;
  size_t sent = 0;
};

std::string Answer(std::string_view status, std::string_view type, std::string_view body, bool head) {
  return fmt::format(
      "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: "
      "close\r\n\r\n{}",
      status, type, body.size(), head ? "" : body);
}

std::string JsonAnswer(std::string_view status, const boost::json::object& body, bool head) {
  return Answer(status, "application/json", boost::json::serialize(body), head);
}

Status CannotListen(const std::string& listen, const char* why) {
  return MakeStatus(Code::kFailedPrecondition, fmt::format("cannot listen on {}: {}", listen, why));
}

}  // namespace

struct StatusHttp::Impl {
  std::function<Snapshot()> describe;
  std::string address;
  FileDescriptor listener, wake{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::vector<Connection> connections;
  std::thread thread;
  Mutex mutex;
  std::string not_ready CY_GUARDED_BY(mutex);

  std::string Ready(bool head) {
    Snapshot snapshot = describe();
    MutexLock lock(mutex);
    if (!not_ready.empty()) {
      snapshot.ready = false;
      snapshot.not_ready_reasons = {not_ready};
    }
    if (snapshot.ready) return JsonAnswer("200 OK", {{"status", "ready"}}, head);
    boost::json::array reasons(snapshot.not_ready_reasons.begin(), snapshot.not_ready_reasons.end());
    return JsonAnswer("503 Service Unavailable", {{"status", "not ready"}, {"reasons", std::move(reasons)}},
                      head);
  }

  std::string Respond(std::string_view request) {
    const size_t space = request.find(' ');
    const size_t end = request.find_first_of(" \r\n", space + 1);
    if (space == std::string_view::npos || end == std::string_view::npos || request[end] != ' ') {
      return JsonAnswer("400 Bad Request", {{"error", "not an HTTP request"}}, false);
    }
    const std::string_view method = request.substr(0, space);
    std::string_view path = request.substr(space + 1, end - space - 1);
    path = path.substr(0, path.find('?'));
    const bool head = method == "HEAD";
    if (method != "GET" && !head) return JsonAnswer("405 Method Not Allowed", {{"error", "only GET"}}, false);
    if (path == "/health" || path == "/healthz") return JsonAnswer("200 OK", {{"status", "ok"}}, head);
    if (path == "/ready") return Ready(head);
    if (path == "/metrics")
      return Answer("200 OK", "text/plain; version=0.0.4; charset=utf-8", RenderMetrics(), head);
    return JsonAnswer("404 Not Found", {{"error", "known: /health, /healthz, /ready, /metrics"}}, head);
  }

  // False: the connection is over.
  bool Step(Connection& c, short events) {
    if (c.out.empty()) {
      if (!(events & (POLLIN | POLLHUP | POLLERR))) return true;
      char buffer[2048];
      const ssize_t n = recv(c.socket.fd, buffer, sizeof(buffer), 0);
      if (n < 0) return errno == EAGAIN || errno == EINTR;
      if (n == 0) return false;
      c.in.append(buffer, static_cast<size_t>(n));
      if (c.in.find("\r\n\r\n") != std::string::npos) {
        c.out = Respond(c.in);
      } else if (c.in.size() >= kMaxRequest) {
        c.out = JsonAnswer("431 Request Header Fields Too Large", {{"error", "header too long"}}, false);
      } else {
        return true;
      }
    }
    const ssize_t n = send(c.socket.fd, c.out.data() + c.sent, c.out.size() - c.sent, MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    c.sent += static_cast<size_t>(n);
    if (c.sent < c.out.size()) return true;
    shutdown(c.socket.fd, SHUT_WR);
    return false;
  }

  void Accept() {
    FileDescriptor socket(accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket.fd < 0) return;
    if (connections.size() >= kMaxConnections) connections.erase(connections.begin());
    connections.push_back({std::move(socket), Clock::now() + kPatience, {}, {}, 0});
  }

  void Run() {
    while (true) {
      std::vector<pollfd> polled = {{wake.fd, POLLIN, 0}, {listener.fd, POLLIN, 0}};
      TimePoint next = kNever;
      for (const Connection& c : connections) {
        polled.push_back({c.socket.fd, static_cast<short>(c.out.empty() ? POLLIN : POLLOUT), 0});
        next = std::min(next, c.deadline);
      }
      const int wait = next == kNever ? -1
                                      : static_cast<int>(std::max<int64_t>(
                                            0, std::chrono::ceil<Millis>(next - Clock::now()).count()));
      if (poll(polled.data(), polled.size(), wait) < 0 && errno != EINTR) return;
      if (polled[0].revents) return;
      const TimePoint now = Clock::now();
      std::vector<Connection> alive;
      for (size_t i = 0; i < connections.size(); ++i) {
        const short events = polled[i + 2].revents;
        if (events ? Step(connections[i], events) : connections[i].deadline > now) {
          alive.push_back(std::move(connections[i]));
        }
      }
      connections = std::move(alive);
      if (polled[1].revents) Accept();
    }
  }
};

StatusHttp::StatusHttp(std::function<Snapshot()> describe) : impl_(std::make_unique<Impl>()) {
  impl_->describe = std::move(describe);
}

StatusHttp::~StatusHttp() { Stop(); }

Status StatusHttp::Start(const std::string& listen) {
  auto address = ParseAddress(listen);
  if (!address || address->is_unix()) return CannotListen(listen, "not host:port");
  addrinfo hints{}, *found = nullptr;
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  if (const int error =
          getaddrinfo(address->host.c_str(), std::to_string(address->port).c_str(), &hints, &found)) {
    return CannotListen(listen, gai_strerror(error));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> info(found, freeaddrinfo);
  FileDescriptor socket(::socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int yes = 1;
  setsockopt(socket.fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  if (bind(socket.fd, info->ai_addr, info->ai_addrlen) != 0 || ::listen(socket.fd, SOMAXCONN) != 0) {
    return CannotListen(listen, std::strerror(errno));
  }
  sockaddr_storage bound{};
  socklen_t size = sizeof(bound);
  char port[NI_MAXSERV] = "0";
  getsockname(socket.fd, reinterpret_cast<sockaddr*>(&bound), &size);
  getnameinfo(reinterpret_cast<sockaddr*>(&bound), size, nullptr, 0, port, sizeof(port), NI_NUMERICSERV);
  address->port = std::atoi(port);
  impl_->address = address->ToString();
  impl_->listener = std::move(socket);
  impl_->thread = std::thread([this] { impl_->Run(); });
  return Status::Ok();
}

const std::string& StatusHttp::address() const { return impl_->address; }

void StatusHttp::SayNotReady(const std::string& why) {
  MutexLock lock(impl_->mutex);
  impl_->not_ready = why;
}

void StatusHttp::Stop() {
  if (!impl_->thread.joinable()) return;
  const uint64_t one = 1;
  if (write(impl_->wake.fd, &one, sizeof(one)) < 0) return;
  impl_->thread.join();
}

}  // namespace cyllm
