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
                                  const std::string& source = "") {
    auto manifests = ReadManifests(CY_ENGINE_DIR);
    EXPECT_TRUE(manifests) << manifests.error().message;
    std::erase_if(*manifests, [](const Manifest& m) { return m.name != "echo"; });
    return std::make_shared<ModelSlot>(ModelEntry{"m", source, "echo", options_json}, manifests->at(0),
                                       options);
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
