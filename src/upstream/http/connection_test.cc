#include "upstream/http/connection.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio.hpp>
#include <cerrno>

namespace cyllm {
namespace {

namespace asio = boost::asio;

// A server on a Unix socket whose queue of connections is full: nobody else gets in until it accepts.
class FullServer {
 public:
  FullServer() {
    char folder[] = "/tmp/cy-connection-XXXXXX";
    folder_ = mkdtemp(folder);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof address.sun_path - 1);
    const auto* to = reinterpret_cast<const sockaddr*>(&address);
    listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(bind(listener_, to, sizeof address), 0);
    EXPECT_EQ(listen(listener_, 0), 0);
    while (true) {
      const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
      fds_.push_back(fd);
      if (connect(fd, to, sizeof address) == 0) continue;
      EXPECT_EQ(errno, EAGAIN);
      break;
    }
  }
  ~FullServer() {
    for (const int fd : fds_) close(fd);
    close(listener_);
    unlink(path().c_str());
    rmdir(folder_.c_str());
  }
  std::string path() const { return folder_ + "/s"; }
  size_t waiting() const { return fds_.size() - 1; }
  int Accept() {
    fds_.push_back(accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC));
    return fds_.back();
  }

 private:
  std::string folder_;
  int listener_ = -1;
  std::vector<int> fds_;
};

struct Outcome {
  std::optional<Status> opened, written;
};

Task<> OpenAndWrite(ServerConnection& connection, std::string path, TimePoint until, Outcome& outcome) {
  Url url;
  url.unix_path = std::move(path);
  outcome.opened = co_await connection.Open(url, nullptr, until);
  if (outcome.opened->ok()) outcome.written = co_await connection.Write("hello", "", kNever);
}

TEST(ServerConnection, WaitsWhereTheQueueOfConnectionsIsFull) {
  FullServer server;
  asio::io_context io;
  ServerConnection connection(io.get_executor());
  Outcome outcome;
  asio::co_spawn(io, OpenAndWrite(connection, server.path(), After(Clock::now(), Millis(60'000)), outcome),
                 asio::detached);
  io.run_for(Millis(50));
  EXPECT_FALSE(outcome.opened);
  const size_t before = server.waiting();
  for (size_t i = 0; i < before; ++i) server.Accept();
  io.run();
  ASSERT_TRUE(outcome.opened);
  ASSERT_TRUE(outcome.opened->ok()) << outcome.opened->ToString();
  ASSERT_TRUE(outcome.written);
  ASSERT_TRUE(outcome.written->ok()) << outcome.written->ToString();
  char text[5] = {};
  ASSERT_EQ(read(server.Accept(), text, sizeof text), 5);
  EXPECT_EQ(std::string_view(text, sizeof text), "hello");
}

TEST(ServerConnection, WaitsForAPlaceInTheQueueUntilItsLimit) {
  FullServer server;
  asio::io_context io;
  ServerConnection connection(io.get_executor());
  Outcome outcome;
  asio::co_spawn(io, OpenAndWrite(connection, server.path(), After(Clock::now(), Millis(50)), outcome),
                 asio::detached);
  io.run();
  ASSERT_TRUE(outcome.opened);
  EXPECT_EQ(outcome.opened->code, Code::kUnavailable);
  EXPECT_EQ(outcome.opened->reason, kSilent);
}

}  // namespace
}  // namespace cyllm
