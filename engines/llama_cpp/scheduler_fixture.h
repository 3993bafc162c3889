// For tests: a scheduler over the fake model, stepped by hand.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>

#include "llama_cpp/fake_model.h"
#include "llama_cpp/scheduler.h"
#include "llama_cpp/test_client.h"

namespace cyllm::llama::testing {

class SchedulerTest : public ::testing::Test {
 protected:
  void Make(uint32_t sequences, uint32_t chunk, uint32_t length = 64, SchedulerOptions options = {}) {
    options.prefill_chunk = chunk;
    decoder_ = std::make_unique<FakeDecoder>(sequences, length, spare_);
    decoder_->copies = copies_;
    decoder_->names = adapters_;
    scheduler_.reset();
    if (seats_ > 0) {
      prompts_ = std::make_unique<FakeDecoder>(seats_, length);
      prompts_->names = adapters_;
      lane_ = std::make_unique<PromptLane>(*prompts_, cores_, [this] { return now_; }, [] {});
    } else {
      lane_.reset();
    }
    scheduler_ =
        std::make_unique<Scheduler>(*decoder_, vocabulary_, options, [this] { return now_; }, lane_.get());
  }

  void Add(TestRequest& in) {
    cyllm_error error{};
    error.size = sizeof error;
    const auto adapter = ReadAdapter(in.get(), decoder_->names, &error);
    ASSERT_TRUE(adapter) << error.message;
    auto request = ReadRequest(in.get(), vocabulary_.size(), *adapter, &error);
    ASSERT_TRUE(request) << error.message;
    request->submitted = now_;
    request->index = &index_;
    ASSERT_TRUE(FillPrompt(chat_, vocabulary_, decoder_->max_length(), request.get(), &error))
        << error.message;
    scheduler_->Add(std::move(request), &events_);
    Deliver();
  }
  void Add(uint64_t id, const std::string& prompt, uint32_t max_tokens, const std::string& adapter = {}) {
    TestRequest request(id);
    request.Text(prompt).Adapter(adapter).request.max_tokens = max_tokens;
    Add(request);
  }

  // A step of the scheduler, and where there is nothing for it to do, of the prompt lane.
  bool Step() {
    scheduler_->Land(&events_);
    Deliver();
    if (!scheduler_->Plan()) return lane_ && lane_->Step();
    now_ += std::chrono::milliseconds(10);
    if (step_takes_.count() > 0) decoder_->on_decode = [this](const auto&) { now_ += step_takes_; };
    scheduler_->Compute(abort_, &events_);
    Deliver();
    return true;
  }
  void RunAll() {
    for (int i = 0; i < 1000 && Step(); ++i) {
    }
  }
  void Cancel(uint64_t id) {
    cyllm_error error{};
    error.size = sizeof error;
    sdk::Fail(&error, CYLLM_CANCELLED, "cancelled");
    scheduler_->Cancel(id, error, &events_);
    Deliver();
  }
  void Deliver() {
    gatherer_.Take(events_.list().data(), events_.list().size());
    events_.Clear();
  }
  std::string Text(uint64_t id, uint32_t choice = 0) { return gatherer_.Now(id).choices[choice].text; }

  FakeVocabulary vocabulary_;
  TokenIndex index_{vocabulary_};
  FakeChat chat_;
  std::unique_ptr<FakeDecoder> decoder_;
  Cores cores_{2};
  std::unique_ptr<FakeDecoder> prompts_;  // of the lane
  std::unique_ptr<PromptLane> lane_;
  std::unique_ptr<Scheduler> scheduler_;
  Events events_;
  Gatherer gatherer_;
  std::atomic<bool> abort_ = false;
  TimePoint now_{};
  std::chrono::milliseconds step_takes_{0};
  bool copies_ = true;
  std::vector<std::string> adapters_;  // of the next Make
  uint32_t spare_ = 0, seats_ = 0;     // of the next Make; without seats there is no prompt lane
};

}  // namespace cyllm::llama::testing
