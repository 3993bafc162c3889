#include "upstream/process/supervisor.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>

namespace cyllm {
namespace {

namespace fs = std::filesystem;

class SupervisorTest : public testing::Test {
 protected:
  SupervisorTest() {
    char folder[] = "/tmp/cy-supervisor-XXXXXX";
    folder_ = mkdtemp(folder);
  }
  ~SupervisorTest() override { fs::remove_all(folder_); }

  // Runs a shell script; `ready` is a file that it makes.
  SupervisorOptions Script(const std::string& script) {
    SupervisorOptions options;
    options.name = "test";
    options.child.command = {"sh", "-c", script};
    options.child.env = {{"DIR", folder_}};
    options.backoff = Millis(10);
    options.max_backoff = Millis(40);
    options.stop_grace = Millis(300);
    options.ready = [this] { return fs::exists(folder_ + "/ready"); };
    options.on_end = [this] { ++ends_; };
    return options;
  }
  static void Await(const std::function<bool()>& condition) {
    const TimePoint limit = Clock::now() + std::chrono::seconds(20);
    while (!condition()) {
      ASSERT_LT(Clock::now(), limit);
      std::this_thread::sleep_for(Millis(2));
    }
  }
  int Number(const std::string& file) const {
    int number = 0;
    std::ifstream(folder_ + "/" + file) >> number;
    return number;
  }
  // Also true for a zombie that nobody reaped: pids of grandchildren go to the machine's init.
  static bool Alive(pid_t pid) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string number, name, state;
    stat >> number >> name >> state;
    return stat && state != "Z";
  }

  std::string folder_;
  std::atomic<int> ends_{0};
};

TEST_F(SupervisorTest, StartsAndStops) {
  Supervisor supervisor(Script("trap 'exit 0' TERM; touch $DIR/ready; while :; do sleep 0.01; done"));
  EXPECT_EQ(supervisor.state(), ServerState::kStopped);
  supervisor.Start();
  supervisor.Start();
  Await([&] { return supervisor.state() == ServerState::kReady; });
  const pid_t pid = supervisor.pid();
  EXPECT_NE(getpgid(pid), getpgid(0));
  supervisor.Stop();
  EXPECT_FALSE(Alive(pid));
  EXPECT_EQ(supervisor.state(), ServerState::kStopped);
  EXPECT_EQ(ends_, 1);
}

TEST_F(SupervisorTest, IsNotStartedBeforeItHasStopped) {
  Supervisor supervisor(
      Script("trap 'until test -e $DIR/go; do sleep 0.01; done; exit 0' TERM; touch $DIR/ready; "
             "while :; do sleep 0.01; done"));
  const auto ready = [&] { return supervisor.state() == ServerState::kReady; };
  supervisor.Start();
  Await(ready);
  const pid_t first = supervisor.pid();
  supervisor.BeginStop(Millis(60'000));
  supervisor.Start();
  EXPECT_EQ(supervisor.state(), ServerState::kStopping);
  EXPECT_TRUE(Alive(first));
  std::ofstream(folder_ + "/go") << "x";
  Await([&] { return supervisor.state() == ServerState::kStopped; });
  supervisor.Start();
  Await(ready);
  EXPECT_NE(supervisor.pid(), first);
  supervisor.Stop();
  EXPECT_EQ(ends_, 2);
}

TEST_F(SupervisorTest, TheGraceThatEndsFirstCounts) {
  Supervisor supervisor(Script("trap '' TERM; touch $DIR/ready; while :; do sleep 0.01; done"));
  supervisor.Start();
  Await([&] { return supervisor.state() == ServerState::kReady; });
  supervisor.BeginStop(std::chrono::hours(1));
  supervisor.Stop(Millis(0));
  EXPECT_EQ(supervisor.state(), ServerState::kStopped);
}

TEST_F(SupervisorTest, WhatIgnoresSigtermIsKilledWithAllItStarted) {
  Supervisor supervisor(
      Script("trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > $DIR/child; while :; do sleep 1; done' & touch "
             "$DIR/ready; wait; wait"));
  supervisor.Start();
  Await([&] { return supervisor.state() == ServerState::kReady && Number("child") > 0; });
  supervisor.Stop();
  const int child = Number("child");
  Await([&] { return !Alive(child); });
}

TEST_F(SupervisorTest, AnEndWithAnyStatusIsARestart) {
  Supervisor supervisor(Script("echo x >> $DIR/runs; touch $DIR/ready; sleep 0.2; exit 0"));
  supervisor.Start();
  Await([&] { return ends_ >= 3; });
  supervisor.Stop();
}

TEST_F(SupervisorTest, WhatAServerLeavesBehindIsKilled) {
  // Only the first of its lives.
  Supervisor supervisor(
      Script("test -e $DIR/child || { sleep 1000 & echo $! > $DIR/child; }; touch $DIR/ready; sleep 0.3; "
             "exit 0"));
  supervisor.Start();
  Await([&] { return ends_ >= 1; });
  const int child = Number("child");
  supervisor.Stop();
  EXPECT_GT(child, 0);
  Await([&] { return !Alive(child); });
}

TEST_F(SupervisorTest, AFailedStartIsFailedUntilTheNext) {
  Supervisor supervisor(Script("echo 'out of memory' >&2; exit 3"));
  supervisor.Start();
  Await([&] { return ends_ >= 2 && supervisor.state() == ServerState::kFailed; });
  supervisor.Stop();
  SupervisorOptions missing = Script("");
  missing.child.command = {"no-such-program-here"};
  Supervisor other(missing);
  other.Start();
  Await([&] { return other.state() == ServerState::kFailed; });
}

TEST_F(SupervisorTest, NotReadyInTimeIsKilled) {
  SupervisorOptions options = Script("while :; do sleep 1; done");
  options.start_limit = Millis(50);
  Supervisor supervisor(options);
  supervisor.Start();
  Await([&] { return ends_ >= 2; });
}

TEST_F(SupervisorTest, WhatIsInTroubleIsKilledAndStartedAgain) {
  std::atomic<bool> trouble{false};
  SupervisorOptions options = Script("touch $DIR/ready; while :; do sleep 0.01; done");
  options.trouble = [&] { return trouble.exchange(false) ? std::string("it hangs") : std::string(); };
  Supervisor supervisor(std::move(options));
  supervisor.Start();
  Await([&] { return supervisor.state() == ServerState::kReady; });
  const pid_t first = supervisor.pid();
  trouble = true;
  Await([&] { return ends_ >= 1; });
  Await([&] { return supervisor.state() == ServerState::kReady && supervisor.pid() != first; });
  EXPECT_FALSE(Alive(first));
}

TEST_F(SupervisorTest, IsStartedWhenItMay) {
  std::atomic<int> asked{0};
  std::atomic<bool> seen{false};
  SupervisorOptions options = Script("touch $DIR/ready; exec sleep 60");
  options.may_start = [&](const std::function<bool()>& wanted) {
    if (++asked == 1) return false;
    while (!seen && wanted()) std::this_thread::yield();
    return true;
  };
  Supervisor refused(std::move(options));
  refused.Start();
  Await([&] { return refused.state() == ServerState::kFailed; });
  seen = true;
  Await([&] { return refused.state() == ServerState::kReady; });
  EXPECT_EQ(asked, 2);
  refused.Stop();

  std::atomic<bool> waits{false};
  options = Script("exec sleep 60");
  options.may_start = [&](const std::function<bool()>& wanted) {
    while (wanted()) {
      waits = true;
      std::this_thread::yield();
    }
    return false;
  };
  Supervisor waiting(std::move(options));
  waiting.Start();
  Await([&] { return waits.load(); });
  EXPECT_EQ(waiting.state(), ServerState::kStarting);
  waiting.Stop();  // does not wait for what never comes
  EXPECT_EQ(waiting.state(), ServerState::kStopped);
}

TEST_F(SupervisorTest, TheChildInheritsNothing) {
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
  int leaked[2];
  ASSERT_EQ(pipe(leaked), 0);  // not CLOEXEC
  {
    Supervisor supervisor(
        Script("ls /proc/self/fd | wc -l > $DIR/fds; grep SigBlk /proc/self/status | cut -f2 > $DIR/mask; "
               "touch $DIR/ready; exec sleep 100"));
    supervisor.Start();
    Await([&] { return supervisor.state() == ServerState::kReady; });
    EXPECT_EQ(Number("fds"), 4);  // 0, 1, 2, and the folder that ls reads
    EXPECT_EQ(Number("mask"), 0);
  }
  close(leaked[0]);
  close(leaked[1]);
  pthread_sigmask(SIG_UNBLOCK, &blocked, nullptr);
}

TEST_F(SupervisorTest, AStaleSocketFileIsRemoved) {
  SupervisorOptions options =
      Script("test -e $DIR/s && exit 1; touch $DIR/s; touch $DIR/ready; exec sleep 100");
  options.socket = folder_ + "/s";
  std::ofstream(options.socket) << "x";
  Supervisor supervisor(options);
  supervisor.Start();
  Await([&] { return supervisor.state() == ServerState::kReady; });
  supervisor.Stop();
  EXPECT_FALSE(fs::exists(options.socket));
}

// A process that supervises, killed without warning: what it started goes too.
TEST_F(SupervisorTest, NothingOutlivesUs) {
  const pid_t parent = fork();
  if (parent == 0) {
    SupervisorOptions options = Script(
        "trap '' TERM; sleep 1000 & echo $! > $DIR/child; echo $$ > $DIR/server; touch $DIR/ready; wait");
    Supervisor supervisor(options);
    supervisor.Start();
    while (true) pause();
  }
  Await([&] { return fs::exists(folder_ + "/ready"); });
  kill(parent, SIGKILL);
  const int server = Number("server"), child = Number("child");
  EXPECT_GT(child, 0);
  Await([&] { return !Alive(server) && !Alive(child); });
}

}  // namespace
}  // namespace cyllm
