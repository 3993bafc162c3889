#include "worker/engine_host/listing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "worker/engine_host/library_file.h"
#include "worker/engine_host/library_search.h"

namespace cyllm {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class ListingTest : public testing::Test {
 protected:
  ListingTest() {
    std::string name = (fs::temp_directory_path() / "cy-llm-test-XXXXXX").string();
    dir_ = mkdtemp(name.data());
  }
  ~ListingTest() override { fs::remove_all(dir_); }

  static std::string Echo() {
    std::ifstream file(CY_ENGINE_DIR "/echo/libcyllm_engine_echo.so", std::ios::binary);
    std::stringstream bytes;
    bytes << file.rdbuf();
    return bytes.str();
  }

  void Put(const std::string& name, const std::string& library,
           const std::string& more = R"("abi": {"major": 1, "minor": 0})") {
    fs::create_directories(dir_ / name);
    std::ofstream(dir_ / name / "manifest.json")
        << R"({"name": ")" << name << R"(", "library": "lib.so", "capabilities": ["chat"], )" << more << "}";
    std::ofstream(dir_ / name / "lib.so", std::ios::binary) << library;
  }

  std::vector<std::string> WhyNot(const std::string& name) {
    const auto all = ListEngines(dir_.string());
    EXPECT_TRUE(all);
    for (const EngineListing& e : *all)
      if (e.manifest.name == name) return e.why_not;
    ADD_FAILURE() << name << " is not listed";
    return {};
  }

  fs::path dir_;
};

TEST_F(ListingTest, WhatIsBuiltCanRun) {
  const auto all = ListEngines(CY_ENGINE_DIR);
  ASSERT_TRUE(all);
  const auto echo = std::ranges::find(*all, "echo", [](const EngineListing& e) { return e.manifest.name; });
  ASSERT_NE(echo, all->end());
  EXPECT_THAT(echo->why_not, IsEmpty());
  EXPECT_THAT(echo->manifest.devices, ElementsAre("cpu"));
  EXPECT_EQ(echo->manifest.version, "1");
}

TEST_F(ListingTest, EveryReasonIsSaidAndOthersAreListedAllTheSame) {
  Put("good", Echo());
  Put("future", Echo(), R"("abi": {"major": 2, "minor": 0})");
  Put("newer", Echo(), R"("abi": {"major": 1, "minor": 9})");
  Put("text", "no library");
  Put("quantum", Echo(), R"("abi": {"major": 1, "minor": 0}, "devices": ["a-device-that-we-do-not-know"])");
  std::string other = Echo();
  other[18] = static_cast<char>(40);  // e_machine: 32-bit ARM
  other[19] = 0;
  Put("other", other);
  std::string lost = Echo();
  size_t changed = 0;  // the name of a library that it needs
  for (size_t at; (at = lost.find("libstdc++.so.6")) != std::string::npos; ++changed) lost[at + 3] = 'x';
  ASSERT_GT(changed, 0u);
  Put("lost", lost);
  Put("gone", "");
  fs::remove(dir_ / "gone/lib.so");
  fs::create_directories(dir_ / "wrong");
  std::ofstream(dir_ / "wrong/manifest.json") << "{";
  fs::create_directories(dir_ / "no manifest");

  const auto all = ListEngines(dir_.string());
  ASSERT_TRUE(all);
  EXPECT_THAT(*all, SizeIs(9));
  EXPECT_THAT(WhyNot("good"), IsEmpty());
  EXPECT_THAT(WhyNot("future"), ElementsAre(HasSubstr("made for ABI 2.0")));
  EXPECT_THAT(WhyNot("newer"), ElementsAre(HasSubstr("made for ABI 1.9")));
  EXPECT_THAT(WhyNot("text"), ElementsAre(HasSubstr("is no shared library")));
  EXPECT_THAT(WhyNot("quantum"), IsEmpty());
  EXPECT_THAT(WhyNot("other"), ElementsAre(HasSubstr("is for machine 40, this machine is")));
  EXPECT_THAT(WhyNot("lost"), ElementsAre(HasSubstr("library libxtdc++.so.6 is missing (for lib.so)")));
  EXPECT_THAT(WhyNot("gone"), ElementsAre(HasSubstr("is not there")));
  EXPECT_THAT(WhyNot("wrong"), ElementsAre(HasSubstr("no engine manifest")));
}

TEST_F(ListingTest, AFolderThatIsNotThere) { EXPECT_FALSE(ListEngines((dir_ / "not there").string())); }

TEST_F(ListingTest, DamagedLibrariesAreReadWithinTheirBounds) {
  const std::string echo = Echo();
  const fs::path path = dir_ / "damaged.so";
  uint32_t turn = 1;
  for (int i = 0; i < 300; ++i) {
    std::string bytes = echo.substr(0, i % 3 == 0 ? (turn % echo.size()) : echo.size());
    for (int k = 0; k < 8 && bytes.size() > 64; ++k) {
      turn = turn * 1664525 + 1013904223;
      bytes[turn % std::min<size_t>(bytes.size(), 2000)] = static_cast<char>(turn >> 24);
    }
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
    (void)WhyNotLoadable(path.string());
  }
}

TEST_F(ListingTest, Devices) {
  const auto here = [](const std::string& path) { return path == "/dev/kfd"; };
  EXPECT_TRUE(HasDevice({}, here));
  EXPECT_TRUE(HasDevice({"cpu"}, here));
  EXPECT_TRUE(HasDevice({"cuda", "rocm"}, here));
  EXPECT_FALSE(HasDevice({"cuda", "ascend", "vulkan"}, here));
  EXPECT_TRUE(HasDevice({"a-new-one"}, here));
}

TEST(LibraryFileTest, OfThisBuild) {
  const auto file = ReadLibraryFile(CY_ENGINE_DIR "/echo/libcyllm_engine_echo.so");
  ASSERT_TRUE(file);
  EXPECT_THAT(file->needs, Contains("libc.so.6"));
  EXPECT_TRUE(file->glibc.starts_with("2."));
}

TEST(LibraryFileTest, Versions) {
  EXPECT_TRUE(OlderVersion("2.4", "2.36"));
  EXPECT_TRUE(OlderVersion("", "2.0"));
  EXPECT_TRUE(OlderVersion("2.3", "2.3.4"));
  EXPECT_FALSE(OlderVersion("2.36", "2.36"));
  EXPECT_FALSE(OlderVersion("3.0", "2.99"));
}

TEST(LibrarySearchTest, TheLoadersCache) {
  std::ifstream file("/etc/ld.so.cache", std::ios::binary);
  std::stringstream cache;
  cache << file.rdbuf();
  if (cache.str().empty()) GTEST_SKIP() << "no cache here";
  EXPECT_TRUE(fs::exists(FindInCache(cache.str(), "libc.so.6")));
  EXPECT_EQ(FindInCache(cache.str(), "libnotthere.so.6"), "");
  EXPECT_EQ(FindInCache(cache.str().substr(0, 100), "libc.so.6"), "");
  EXPECT_EQ(FindInCache("", "libc.so.6"), "");
  EXPECT_EQ(FindLibrary("libnotthere.so.6", {"/nowhere"}), std::nullopt);
  EXPECT_EQ(FindLibrary("libc.so.6", {}), "");  // loaded
}

}  // namespace
}  // namespace cyllm
