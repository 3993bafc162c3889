#include "llama_cpp/message_parser.h"
#include "llama_cpp/own_tools.h"
#include "llama_cpp/tag_finder.h"

namespace cyllm::llama {

namespace {

constexpr std::string_view kSpace = " \t\r\n";

enum class Found { kYes, kMore, kNo };

// Takes `word` and white space around it from the front of `text`.
Found Take(std::string_view* text, std::string_view word) {
  const size_t at = text->find_first_not_of(kSpace);
  if (at == std::string_view::npos) return Found::kMore;
  const std::string_view rest = text->substr(at);
  if (rest.starts_with(word)) {
    *text = rest.substr(word.size());
    return Found::kYes;
  }
  return word.starts_with(rest) ? Found::kMore : Found::kNo;
}

Found TakeAll(std::string_view* text, std::initializer_list<std::string_view> words) {
  std::string_view rest = *text;
  for (const std::string_view word : words)
    if (const Found found = Take(&rest, word); found != Found::kYes) return found;
  *text = rest;
  return Found::kYes;
}

class ToolCalls final : public MessageParser {
 public:
  explicit ToolCalls(std::string_view prefix) {
    Push(prefix, &opening_);  // a call's head may be in it, never content
  }

  void Push(std::string_view text, std::vector<MessagePart>* out) override {
    if (out != &opening_)
      for (MessagePart& part : std::exchange(opening_, {})) out->push_back(std::move(part));
    in_ += text;
    while (Advance(out)) {
    }
  }

  void Finish(std::vector<MessagePart>* out) override {
    for (MessagePart& part : std::exchange(opening_, {})) out->push_back(std::move(part));
    if (state_ == State::kContent) Content(tag_.Flush(), out);
    if (state_ == State::kName) Content(std::string(kToolCallOpen) + std::exchange(in_, {}), out);
  }

 private:
  enum class State { kContent, kName, kArguments, kValue, kTail };

  // One thing from in_; false when more text is needed.
  bool Advance(std::vector<MessagePart>* out) {
    switch (state_) {
      case State::kContent:
        return Free(out);
      case State::kName:
        return Name(out);
      case State::kArguments:
        return Arguments();
      case State::kValue:
        return Value(out);
      case State::kTail:
        return Tail();
    }
    return false;
  }

  bool Free(std::vector<MessagePart>* out) {
    if (in_.empty()) return false;
    std::optional<std::string> after;
    Content(tag_.Push(std::exchange(in_, {}), &after), out);
    if (!after) return false;
    in_ = std::move(*after);
    state_ = State::kName;
    return true;
  }

  bool Name(std::vector<MessagePart>* out) {
    std::string_view rest = in_;
    const Found found = TakeAll(&rest, {"{", "\"name\"", ":", "\""});
    const size_t quote = found == Found::kYes ? rest.find('"') : std::string_view::npos;
    if (found == Found::kMore || (found == Found::kYes && quote == std::string_view::npos)) return false;
    if (found == Found::kNo) return NoCall(out);
    out->push_back({MessagePart::Kind::kToolCall, {}, calls_, true, std::string(rest.substr(0, quote))});
    in_ = std::string(rest.substr(quote + 1));
    state_ = State::kArguments;
    return true;
  }

  bool Arguments() {
    std::string_view rest = in_;
    if (TakeAll(&rest, {",", "\"arguments\"", ":"}) != Found::kYes) return false;
    const size_t at = rest.find_first_not_of(kSpace);
    if (at == std::string_view::npos) return false;
    in_ = std::string(rest.substr(at));
    state_ = State::kValue;
    depth_ = 0;
    string_ = escaped_ = false;
    return true;
  }

  // The arguments are an object: they end with the brace that closes it.
  bool Value(std::vector<MessagePart>* out) {
    size_t n = 0;
    bool end = false;
    for (; n < in_.size() && !end; ++n) {
      const char c = in_[n];
      if (escaped_) {
        escaped_ = false;
      } else if (string_) {
        escaped_ = c == '\\';
        string_ = c != '"';
      } else if (c == '"') {
        string_ = true;
      } else if (c == '{' || c == '[') {
        ++depth_;
      } else if (c == '}' || c == ']') {
        end = --depth_ <= 0;
      }
    }
    if (n > 0) out->push_back({MessagePart::Kind::kToolCall, in_.substr(0, n), calls_, false, {}});
    in_.erase(0, n);
    if (!end) return false;
    ++calls_;
    state_ = State::kTail;
    return true;
  }

  bool Tail() {
    std::string_view rest = in_;
    const Found found = TakeAll(&rest, {"}", kToolCallClose});
    if (found == Found::kMore) return false;
    if (found == Found::kYes) in_ = std::string(rest);
    state_ = State::kContent;
    between_ = true;
    return !in_.empty();
  }

  bool NoCall(std::vector<MessagePart>* out) {
    Content(kToolCallOpen, out);
    state_ = State::kContent;
    return true;
  }

  // White space between calls is none.
  void Content(std::string_view text, std::vector<MessagePart>* out) {
    if (between_) {
      const size_t at = text.find_first_not_of(kSpace);
      if (at == std::string_view::npos) return;
      text = text.substr(at);
      between_ = false;
    }
    if (!text.empty()) out->push_back({MessagePart::Kind::kText, std::string(text), 0, false, {}});
  }

  State state_ = State::kContent;
  TagFinder tag_{{std::string(kToolCallOpen)}};
  std::string in_;
  std::vector<MessagePart> opening_;  // what the prefix told
  uint32_t calls_ = 0;                // complete ones
  int depth_ = 0;
  bool string_ = false, escaped_ = false, between_ = false;
};

}  // namespace

std::unique_ptr<MessageParser> ToolCallText(std::string_view prefix) {
  return std::make_unique<ToolCalls>(prefix);
}

}  // namespace cyllm::llama
