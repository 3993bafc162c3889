#include "worker/model_slot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "inference/fake_service.h"

namespace cyllm {
namespace {

class ModelSlotTest : public testing::Test {
 protected:
  std::shared_ptr<ModelSlot> Make(const std::string& options_json, ModelSlotOptions options = {},
                                  const std::string& source = "", uint64_t memory_bytes = 0) {
    auto manifests = ReadManifests(CY_ENGINE_DIR);
    EXPECT_TRUE(manifests) << manifests.error().message;
    std::erase_if(*manifests, [](const Manifest& m) { return m.name != "echo"; });
    ModelEntry entry{"m", source, "echo", options_json};
    entry.memory_bytes = memory_bytes;
    return std::make_shared<ModelSlot>(std::move(entry), manifests->at(0), options);
  }
  EventStream Ask(const std::shared_ptr<ModelSlot>& slot) {
    PayloadParts parts;
    parts.messages_json = R"([{"role":"user","content":"hello"}])";
    Context context;
    context.home = pool_.At(0);
    return slot->Infer(Request{{}, Payload::Of(parts)}, std::move(context));
  }
  Collected Run(EventStream stream) {
    Collected out;
    pool_.RunBlocking(Collect(*stream, out));
    return out;
  }

  IoPool pool_{1};
};

TEST_F(ModelSlotTest, AFailedLoadIsTriedAgainAfterThePause) {
  std::string file = (std::filesystem::temp_directory_path() / "cy-slot-XXXXXX").string();
  close(mkstemp(file.data()));
  std::filesystem::remove(file);
  ModelSlotOptions options;
  options.retry_after_failure = Millis(0);
  auto slot = Make("{}", options, file);
  const Collected failed = Run(Ask(slot));
  EXPECT_EQ(failed.end.reason, "load_failed");
  EXPECT_TRUE(failed.end.retryable);
  EXPECT_EQ(failed.end.message.find(file), std::string::npos);  // no paths to clients
  EXPECT_EQ(slot->Describe().state, ModelState::kFailed);
  std::ofstream(file) << "model";
  const Collected got = Run(Ask(slot));
  std::filesystem::remove(file);
  EXPECT_TRUE(got.end.ok()) << got.end.ToString();
  EXPECT_EQ(got.Text(), "hello");
  EXPECT_EQ(slot->Describe().state, ModelState::kReady);
}

TEST_F(ModelSlotTest, NotBeforeThePause) {
  ModelSlotOptions options;
  options.retry_after_failure = std::chrono::hours(1);
  auto slot = Make("{}", options, "/nonexistent/model.gguf");
  EXPECT_EQ(Run(Ask(slot)).end.reason, "load_failed");
  const Collected again = Run(Ask(slot));
  EXPECT_EQ(again.end.reason, "load_failed");
  EXPECT_TRUE(again.events.empty());  // no Progress: nothing was begun
  EXPECT_EQ(again.end.retry_after, Millis(std::chrono::hours(1)));
}

TEST_F(ModelSlotTest, ManyRequestsWhileItIsUnloadedAgainAndAgain) {
  auto slot = Make("{}");
  std::atomic<bool> over{false};
  std::thread unloads([&] {
    while (!over) slot->UnloadIfIdle() ? std::this_thread::yield() : slot->Unload();
  });
  for (int i = 0; i < 300; ++i) {
    const Collected got = Run(Ask(slot));
    ASSERT_TRUE(got.end.ok()) << got.end.ToString();
    ASSERT_EQ(got.Text(), "hello");
  }
  over = true;
  unloads.join();
}

TEST_F(ModelSlotTest, WhatWasLearnedOfItStaysKnown) {
  auto slot = Make("{}");
  EXPECT_TRUE(slot->Describe().digest.empty());
  Run(Ask(slot));
  const ModelInfo loaded = slot->Describe();
  EXPECT_FALSE(loaded.digest.empty());
  EXPECT_TRUE(slot->UnloadIfIdle());
  EXPECT_EQ(slot->Describe().state, ModelState::kAvailable);
  EXPECT_EQ(slot->Describe().digest, loaded.digest);
  EXPECT_EQ(slot->Describe().capabilities, loaded.capabilities);
}

TEST_F(ModelSlotTest, WithoutRoomItWaitsAndSaysSo) {
  ModelSlotOptions options;
  options.residency = std::make_shared<Residency>(
      ResidencyOptions{.budget_bytes = 100 << 20, .min_residency = std::chrono::hours(1)});
  auto first = Make("{}", options, "", 60 << 20), second = Make("{}", options, "", 60 << 20);
  EXPECT_TRUE(Run(Ask(first)).end.ok());
  EXPECT_EQ(second->Describe().state, ModelState::kCrowded);
  EventStream waits = Ask(second);
  std::string told;
  pool_.RunBlocking([](EventSource& s, std::string& detail) -> Task<> {
    while (detail.find("waiting for room") == std::string::npos) {
      const NextResult next = co_await s.Next(kNever);
      if (next.what != NextResult::What::kEvents) co_return;
      detail = std::get<Progress>(next.events.back()).detail;
    }
  }(*waits, told));
  EXPECT_EQ(told, "waiting for room for m");
  first->Unload();
  const Collected got = Run(std::move(waits));
  EXPECT_TRUE(got.end.ok()) << got.end.ToString();
  EXPECT_EQ(got.Text(), "hello");
  // Who has gone, is not loaded for.
  EventStream gone = Ask(first);
  gone.reset();
  const TimePoint until = Clock::now() + std::chrono::seconds(20);
  while (first->Describe().state == ModelState::kLoading && Clock::now() < until) std::this_thread::yield();
  EXPECT_EQ(first->Describe().state, ModelState::kCrowded);
}

TEST_F(ModelSlotTest, OnlySoManyMayWait) {
  ModelSlotOptions options;
  options.max_waiting = 2;
  auto slot = Make(R"({"load_ms": 60000})", options);
  EventStream first = Ask(slot), second = Ask(slot);
  EXPECT_EQ(Run(Ask(slot)).end.reason, "overloaded");
  EXPECT_EQ(slot->load().waiting, 2u);
  first.reset();  // gives up: its place is free
  EventStream third = Ask(slot);
  slot->Close(Clock::now());
  EXPECT_EQ(Run(std::move(second)).end.reason, "draining");
  EXPECT_EQ(Run(std::move(third)).end.reason, "draining");
}

}  // namespace
}  // namespace cyllm
