// Whatever happens around it, a request gets the text that it would get alone.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "llama_cpp/engine.h"
#include "llama_cpp/fake_model.h"
#include "llama_cpp/scheduler_fixture.h"

namespace cyllm::llama {
namespace {

using testing::FakeChat;
using testing::FakeDecoder;
using testing::FakeVocabulary;
using testing::Gatherer;
using testing::kEnd;
using testing::SchedulerTest;
using testing::TestRequest;

// The next token depends on every token before: a sequence that holds anything wrong says something else.
// What it was computed with is checked by the fake decoder.
Token Next(const std::vector<Token>& held) {
  uint32_t hash = 17;
  for (const Token t : held) hash = hash * 31 + static_cast<uint32_t>(t);
  hash ^= hash >> 13;
  return hash % 40 == 0 ? kEnd : static_cast<Token>('a' + hash % 26);
}

std::string Alone(const std::string& prompt, uint32_t max_tokens) {
  std::vector<Token> held(prompt.begin(), prompt.end());
  std::string out;
  while (out.size() < max_tokens) {
    const Token next = Next(held);
    if (next == kEnd) break;
    held.push_back(next);
    out += static_cast<char>(next);
  }
  return out;
}

// Few different beginnings, so that much is shared.
template <typename Below>
std::string RandomPrompt(const Below& below) {
  std::string prompt(20 + below(3) * 40, static_cast<char>('a' + below(3)));
  if (below(3) > 0) prompt += std::string(5 + below(40), static_cast<char>('p' + below(2)));
  for (uint32_t n = 1 + below(4); n > 0; --n) prompt += static_cast<char>('a' + below(26));
  return prompt;
}

class RandomTest : public SchedulerTest {};

TEST_F(RandomTest, EverySchedule) {
  struct Asked {
    std::string prompt;
    uint32_t max_tokens;
    bool cancelled = false;
  };
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
    const uint32_t sequences = 1 + below(5);
    copies_ = below(5) > 0;
    SchedulerOptions options;
    options.prefix_caching = below(5) > 0;
    spare_ = below(3);
    seats_ = below(3);
    adapters_ = {"cook", "poet"};
    const uint32_t names = below(2) == 0 ? 0 : 1 + below(3);  // that are asked for; one is none
    Make(sequences, 1 + below(below(2) > 0 ? 40 : 200), 256, options);
    decoder_->next = Next;
    if (lane_) {
      prompts_->next = Next;
      prompts_->restores = below(10) > 0;
      decoder_->restores = below(10) > 0;
      decoder_->saves = below(20) > 0;
    }
    step_takes_ = std::chrono::milliseconds(1 + below(200));
    std::map<uint64_t, Asked> asked;
    const uint64_t base = uint64_t{seed} * 1000;
    uint64_t id = base;
    const uint32_t events = 30 + below(60);
    for (uint32_t i = 0; i < events; ++i) {
      const uint32_t what = below(10);
      if (what < 3) {
        Asked a{RandomPrompt(below), 1 + below(30)};
        TestRequest request(++id);
        request.Text(a.prompt).request.max_tokens = a.max_tokens;
        if (const uint32_t n = names == 0 ? 0 : below(names); n > 0) request.Adapter(adapters_[n - 1]);
        request.request.priority = static_cast<int32_t>(below(3));
        request.request.credit = below(4) == 0 ? below(5) : 1000;
        request.request.n = 1 + (below(4) == 0 ? below(3) : 0);
        Add(request);
        asked[id] = a;
      } else if (what == 3 && id > base) {
        const uint64_t victim = base + 1 + below(static_cast<uint32_t>(id - base));
        if (!gatherer_.Now(victim).ended) asked[victim].cancelled = true;
        Cancel(victim);
      } else if (what == 5 && lane_) {
        lane_->Step();
      } else if (what == 4 && id > base) {
        scheduler_->Credit(base + 1 + below(static_cast<uint32_t>(id - base)), 1 + below(5));
      } else {
        Step();
      }
      now_ += std::chrono::milliseconds(below(300));
    }
    for (const auto& [r, a] : asked) scheduler_->Credit(r, 10000);
    for (uint32_t i = 0; i < 20000 && Step(); ++i) {
    }
    for (const auto& [r, a] : asked) {
      const auto result = gatherer_.Now(r);
      ASSERT_TRUE(result.ended) << "seed " << seed << " request " << r - base;
      const std::string alone = Alone(a.prompt, a.max_tokens);
      for (const auto& [index, choice] : result.choices) {
        if (a.cancelled) {
          ASSERT_EQ(choice.text, alone.substr(0, choice.text.size())) << "seed " << seed;
        } else {
          ASSERT_EQ(choice.text, alone) << "seed " << seed << " request " << r - base;
        }
      }
    }
    const SchedulerStats stats = scheduler_->stats();
    ASSERT_EQ(stats.running, 0u);
    ASSERT_EQ(stats.cells_used, 0u);
    ASSERT_FALSE(Step());
  }
}

// Submits, credits and cancels from several threads; run it under TSan.
TEST(EngineRandomTest, TenThousandRequests) {
  FakeVocabulary vocabulary;
  FakeChat chat;
  FakeDecoder decoder(6, 256, 2), prompts(2, 256);
  decoder.keep_steps = prompts.keep_steps = false;
  decoder.next = prompts.next = Next;
  decoder.names = prompts.names = {"cook", "poet"};
  Gatherer gatherer;
  Engine engine(decoder, vocabulary, chat, EngineLimits{.prefill_chunk = 32, .max_waiting = 1 << 20},
                gatherer.callbacks(), {}, &prompts);
  constexpr uint32_t kThreads = 4, kEach = 2500;
  const auto client = [&](uint32_t thread) {
    std::mt19937 random(thread);
    const auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
    for (uint32_t i = 1; i <= kEach; ++i) {
      const uint64_t id = uint64_t{thread} * kEach + i;
      const std::string prompt = RandomPrompt(below);
      TestRequest request(id);
      request.Text(prompt).request.max_tokens = 1 + below(12);
      if (const uint32_t n = below(4); n < 2) request.Adapter(decoder.names[n]);
      request.request.priority = static_cast<int32_t>(below(3));
      const bool stingy = below(8) == 0;
      request.request.credit = stingy ? below(3) : 1000;
      cyllm_error error{};
      error.size = sizeof error;
      ASSERT_EQ(engine.Submit(request.get(), &error), CYLLM_OK) << error.message;
      const bool cancel = below(3) == 0;
      if (cancel) engine.Cancel(id - below(std::min(i, 20u)));
      if (stingy) engine.Credit(id, 1000);
      if (below(16) == 0) {
        const auto result = gatherer.Wait(id);
        if (result.code == CYLLM_OK) {
          EXPECT_EQ(result.choices.at(0).text, Alone(prompt, request.request.max_tokens));
        } else {
          EXPECT_EQ(result.code, CYLLM_CANCELLED);
        }
      }
    }
  };
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < kThreads; ++t) threads.emplace_back(client, t);
  for (auto& thread : threads) thread.join();
  engine.Drain();
  for (uint64_t id = 1; id <= kThreads * kEach; ++id) ASSERT_TRUE(gatherer.Now(id).ended);
  EXPECT_EQ(engine.Stats().running, 0u);
  EXPECT_EQ(engine.Stats().waiting, 0u);
  EXPECT_EQ(engine.Stats().kv_cells_used, 0u);
}

}  // namespace
}  // namespace cyllm::llama
