// A scripted HTTP server for tests: a thread per connection, on TCP (127.0.0.1) or a Unix socket. It answers
// health, models and metrics by itself; everything else goes to the test's handler, which may misbehave.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"

namespace cyllm {

class TestServer {
 public:
  // One request and the connection it came on.
  class Exchange {
   public:
    explicit Exchange(int fd) : fd_(fd) {}
    std::string method, path, head, body;
    int number = 0;  // of the connection

    bool Send(std::string_view text) {
      while (!text.empty()) {
        const ssize_t n = send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
        if (n <= 0) return false;
        text.remove_prefix(static_cast<size_t>(n));
      }
      return true;
    }
    void Respond(int status, std::string_view body_text, std::string_view headers = "") {
      Send("HTTP/1.1 " + std::to_string(status) +
           " X\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body_text.size()) +
           "\r\n" + std::string(headers) + "\r\n" + std::string(body_text));
    }
    void BeginStream() {
      Send(
          "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: "
          "chunked\r\n\r\n");
    }
    bool Chunk(std::string_view text) { return Send(ChunkOf(text)); }
    bool Data(std::string_view data) { return Chunk("data: " + std::string(data) + "\n\n"); }
    // At once: who reads [DONE] has all of the body, and may ask again on this connection.
    void EndStream() { Send(ChunkOf("data: [DONE]\n\n") + "0\r\n\r\n"); }
    // Blocks until the client has closed; false after 20 s.
    bool AwaitClosed() {
      char byte;
      return recv(fd_, &byte, 1, 0) <= 0 && errno != EAGAIN;
    }
    void Close() { shutdown(fd_, SHUT_RDWR); }

    bool Read() {
      size_t end;
      while ((end = buffer_.find("\r\n\r\n")) == std::string::npos)
        if (!Fill()) return false;
      head = buffer_.substr(0, end + 4);
      buffer_.erase(0, end + 4);
      method = head.substr(0, head.find(' '));
      path = head.substr(method.size() + 1, head.find(' ', method.size() + 1) - method.size() - 1);
      const size_t at = head.find("Content-Length: ");
      const size_t length = at == std::string::npos ? 0 : std::stoul(head.substr(at + 16));
      while (buffer_.size() < length)
        if (!Fill()) return false;
      body = buffer_.substr(0, length);
      buffer_.erase(0, length);
      return true;
    }

   private:
    static std::string ChunkOf(std::string_view text) {
      char size[32];
      snprintf(size, sizeof size, "%zx\r\n", text.size());
      return size + std::string(text) + "\r\n";
    }
    bool Fill() {
      char data[8192];
      const ssize_t n = recv(fd_, data, sizeof data, 0);
      if (n > 0) buffer_.append(data, static_cast<size_t>(n));
      return n > 0;
    }
    const int fd_;
    std::string buffer_;
  };
  // False: the connection is closed.
  using Handler = std::function<bool(Exchange&)>;

  explicit TestServer(Handler handler, std::string unix_path = "")
      : handler_(std::move(handler)), unix_path_(std::move(unix_path)) {
    if (unix_path_.empty()) {
      fd_ = socket(AF_INET, SOCK_STREAM, 0);
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      socklen_t size = sizeof address;
      if (bind(fd_, reinterpret_cast<sockaddr*>(&address), size) != 0) abort();
      getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
      port_ = ntohs(address.sin_port);
    } else {
      fd_ = socket(AF_UNIX, SOCK_STREAM, 0);
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      unix_path_.copy(address.sun_path, sizeof address.sun_path - 1);
      if (bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) abort();
    }
    if (listen(fd_, 64) != 0) abort();
    acceptor_ = std::thread([this] { Accept(); });
  }
  ~TestServer() { Stop(); }

  void Stop() {
    if (stopped_.exchange(true)) return;
    shutdown(fd_, SHUT_RDWR);
    acceptor_.join();
    close(fd_);
    std::vector<std::thread> threads;
    {
      MutexLock lock(mutex_);
      hang_changed_.NotifyAll();
      for (const int fd : open_) shutdown(fd, SHUT_RDWR);
      threads.swap(threads_);
    }
    for (std::thread& thread : threads) thread.join();
    if (!unix_path_.empty()) unlink(unix_path_.c_str());
  }

  std::string url() const {
    return unix_path_.empty() ? "http://127.0.0.1:" + std::to_string(port_) : "unix:" + unix_path_;
  }
  int connections() const { return connections_; }
  // What the routes that it answers itself say; changed at any time.
  std::atomic<int> health{200};
  // While it hangs, it reads what it would answer itself, and says nothing.
  void Hang(bool hangs) {
    MutexLock lock(mutex_);
    hangs_ = hangs;
    hang_changed_.NotifyAll();
  }
  void Say(const std::string& path, std::string body) {
    MutexLock lock(mutex_);
    said_[path] = std::move(body);
  }

 private:
  void Accept() {
    while (true) {
      const int fd = accept(fd_, nullptr, nullptr);
      if (fd < 0) return;
      const timeval limit{20, 0};
      setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
      MutexLock lock(mutex_);
      open_.push_back(fd);
      threads_.emplace_back([this, fd, number = connections_++] { Serve(fd, number); });
    }
  }
  void Serve(int fd, int number) {
    Exchange exchange(fd);
    exchange.number = number;
    while (exchange.Read() && Answer(exchange)) {
    }
    MutexLock lock(mutex_);
    std::erase(open_, fd);
    close(fd);
  }
  bool Answer(Exchange& exchange) {
    if (exchange.method == "GET") {
      std::string body = exchange.path == "/v1/models" ? kModels : "{}";
      {
        MutexLock lock(mutex_);
        while (hangs_ && !stopped_) hang_changed_.Wait(mutex_);
        const auto said = said_.find(exchange.path);
        if (said != said_.end()) body = said->second;
      }
      exchange.Respond(exchange.path == "/metrics" ? 200 : health.load(), body);
      return true;
    }
    return handler_(exchange);
  }

  static constexpr const char* kModels =
      R"({"data":[{"id":"smol","owned_by":"vllm","max_model_len":2048,"created":5}]})";
  const Handler handler_;
  const std::string unix_path_;
  int fd_ = -1;
  int port_ = 0;
  std::atomic<int> connections_{0};
  std::atomic<bool> stopped_{false};
  std::thread acceptor_;
  Mutex mutex_;
  CondVar hang_changed_;
  bool hangs_ CY_GUARDED_BY(mutex_) = false;
  std::vector<int> open_ CY_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_ CY_GUARDED_BY(mutex_);
  std::map<std::string, std::string> said_ CY_GUARDED_BY(mutex_);
};

}  // namespace cyllm
