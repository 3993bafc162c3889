// For tests: a model of 260 tokens that says the alphabet. A token below 256 is that byte; what follows on a
// token is the next byte, after 'z' the end.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "llama_cpp/chat_template.h"
#include "llama_cpp/decoder.h"
#include "llama_cpp/vocabulary.h"

namespace cyllm::llama::testing {

constexpr Token kEnd = 256;
constexpr uint32_t kVocabulary = 260;

class FakeVocabulary final : public Vocabulary {
 public:
  uint32_t size() const override { return kVocabulary; }
  bool IsEnd(Token token) const override { return token == kEnd; }
  const std::vector<Token>& end_tokens() const override { return end_; }
  std::string Piece(Token token) const override {
    if (on_piece) on_piece(token);
    if (const auto it = pieces.find(token); it != pieces.end()) return it->second;
    return token < 256 ? std::string(1, static_cast<char>(token)) : std::string();
  }
  std::vector<Token> Tokenize(std::string_view text, bool = true) const override {
    if (on_tokenize) on_tokenize(text);
    std::vector<Token> out;
    for (const char c : text) out.push_back(static_cast<uint8_t>(c));
    return out;
  }

  std::map<Token, std::string> pieces;
  std::function<void(std::string_view)> on_tokenize;
  std::function<void(Token)> on_piece;

 private:
  const std::vector<Token> end_ = {kEnd};
};

// The prompt is the messages' JSON as it is.
class FakeChat final : public ChatTemplate {
 public:
  bool Render(const ChatInput& in, ChatPrompt* out, ChatError* error) const override {
    if (in.messages == "bad") {
      error->message = "bad messages";
      return false;
    }
    if (on_render) on_render(in, out);
    out->text = in.messages;
    return true;
  }
  std::function<void(const ChatInput&, ChatPrompt*)> on_render;
  bool Hold(const std::string&, const std::string& extra, std::shared_ptr<const ConstraintSpec>* out,
            ChatError* error) const override {
    if (on_hold) *out = on_hold(extra);
    error->param = "guided_choice";
    return extra != "bad";
  }
  std::function<std::shared_ptr<const ConstraintSpec>(const std::string& extra)> on_hold;
  std::string source() const override { return "fake"; }
};

class FakeDecoder final : public Decoder {
 public:
  // `spare` sequences more than can run.
  explicit FakeDecoder(uint32_t sequences = 4, uint32_t length = 64, uint32_t spare = 0)
      : held_(sequences + spare), with_(sequences + spare), running_(sequences), length_(length) {}

  uint32_t max_sequences() const override { return static_cast<uint32_t>(held_.size()); }
  uint32_t max_running() const override { return running_; }
  uint32_t max_length() const override { return length_; }
  uint32_t vocabulary() const override { return kVocabulary; }
  uint32_t threads() const override { return 2; }
  void SetThreads(uint32_t n) override { EXPECT_TRUE(n == 1 || n == 2); }
  bool can_copy() const override { return copies; }
  const std::vector<std::string>& adapters() const override { return names; }
  void SetAdapter(uint32_t adapter) override {
    EXPECT_LE(adapter, names.size());
    changes += adapter != adapter_;
    adapter_ = adapter;
  }

  DecodeResult Decode(std::span<const Row> rows, const std::atomic<bool>& abort) override {
    if (on_decode) on_decode(abort);
    if (keep_steps) {
      steps.emplace_back(rows.begin(), rows.end());
      step_adapters.push_back(adapter_);
    }
    logits_.assign(rows.size(), {});
    if (abort) return DecodeResult::kAborted;
    if (fails) return DecodeResult::kFailed;
    uint32_t sequence = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      const Row& row = rows[i];
      EXPECT_GE(row.sequence, sequence) << "rows must ascend by sequence";
      sequence = row.sequence;
      std::vector<Token>& held = held_.at(row.sequence);
      EXPECT_EQ(row.position, held.size()) << "positions must follow on";
      EXPECT_LT(held.size(), length_) << "no room in the sequence";
      if (held.empty()) with_[row.sequence] = adapter_;
      EXPECT_EQ(with_[row.sequence], adapter_) << "what it holds was computed with another adapter";
      held.push_back(row.token);
      if (!row.logits) continue;
      logits_[i].assign(kVocabulary, -10.0f);
      logits_[i][static_cast<size_t>(next(held))] = 10.0f;
    }
    return DecodeResult::kOk;
  }

  std::span<float> Logits(size_t i) override {
    EXPECT_FALSE(logits_.at(i).empty()) << "logits that were not asked for";
    return logits_.at(i);
  }
  void Truncate(uint32_t sequence, uint32_t position) override {
    if (held_.at(sequence).size() > position) held_.at(sequence).resize(position);
  }
  void Copy(uint32_t from, uint32_t to) override {
    EXPECT_TRUE(held_.at(to).empty());
    held_.at(to) = held_.at(from);
    with_[to] = with_[from];
    ++copied;
  }
  bool Save(uint32_t sequence, std::vector<uint8_t>* state) override {
    std::vector<Token> held = held_.at(sequence);
    held.push_back(static_cast<Token>(with_[sequence]));
    const auto* bytes = reinterpret_cast<const uint8_t*>(held.data());
    state->assign(bytes, bytes + held.size() * sizeof(Token));
    return saves;
  }
  bool Restore(uint32_t sequence, std::span<uint8_t> state) override {
    std::vector<Token>& held = held_.at(sequence);
    EXPECT_TRUE(held.empty());
    if (!restores) return false;
    held.resize(state.size() / sizeof(Token));
    std::memcpy(held.data(), state.data(), state.size());
    with_[sequence] = static_cast<uint32_t>(held.back());
    held.pop_back();
    return true;
  }

  const std::vector<Token>& held(uint32_t sequence) const { return held_.at(sequence); }
  // Rows of `sequence` in step `step`.
  size_t RowsOf(size_t step, uint32_t sequence) const {
    size_t n = 0;
    for (const Row& row : steps.at(step)) n += row.sequence == sequence;
    return n;
  }

  std::function<Token(const std::vector<Token>&)> next = [](const std::vector<Token>& held) {
    return held.back() == 'z' ? kEnd : held.back() + 1;
  };
  std::function<void(const std::atomic<bool>& abort)> on_decode;
  bool copies = true, fails = false, saves = true, restores = true, keep_steps = true;
  std::vector<std::string> names;  // of adapters
  std::vector<std::vector<Row>> steps;
  std::vector<uint32_t> step_adapters;  // by step
  uint32_t changes = 0;                 // of the adapter
  uint32_t copied = 0;

 private:
  std::vector<std::vector<Token>> held_;
  std::vector<uint32_t> with_;  // the adapter, of a sequence that holds something
  uint32_t adapter_ = 0;
  std::vector<std::vector<float>> logits_;
  const uint32_t running_;
  const uint32_t length_;
};

}  // namespace cyllm::llama::testing
