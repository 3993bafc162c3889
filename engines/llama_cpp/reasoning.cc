#include "llama_cpp/message_parser.h"
#include "llama_cpp/tag_finder.h"

namespace cyllm::llama {

namespace {

constexpr std::string_view kSpace = " \t\r\n";

// Drops white space at the beginning of what `text` continues; true once that is over.
bool SkipSpace(std::string_view* text, bool begun) {
  if (begun) return true;
  const size_t at = text->find_first_not_of(kSpace);
  *text = at == std::string_view::npos ? std::string_view() : text->substr(at);
  return !text->empty();
}

class Plain final : public MessageParser {
 public:
  void Push(std::string_view text, std::vector<MessagePart>* out) override {
    if (!text.empty()) out->push_back({MessagePart::Kind::kText, std::string(text), 0, false, {}});
  }
  void Finish(std::vector<MessagePart>*) override {}
};

class Reasoning final : public MessageParser {
 public:
  Reasoning(std::string start, std::vector<std::string> ends, bool thinking,
            std::unique_ptr<MessageParser> inner)
      : start_(std::move(start)),
        state_(thinking ? State::kThinking : State::kOpening),
        end_(std::move(ends)),
        inner_(std::move(inner)) {}

  void Push(std::string_view text, std::vector<MessagePart>* out) override {
    switch (state_) {
      case State::kOpening:
        return Open(text, out);
      case State::kThinking:
        return Think(text, out);
      case State::kContent:
        return Content(text, out);
    }
  }

  void Finish(std::vector<MessagePart>* out) override {
    if (state_ == State::kThinking) Thought(end_.Flush(), out);
    if (state_ == State::kOpening) inner_->Push(std::exchange(opening_, {}), out);
    inner_->Finish(out);
  }

 private:
  enum class State { kOpening, kThinking, kContent };

  void Open(std::string_view text, std::vector<MessagePart>* out) {
    opening_ += text;
    std::string_view all = opening_;
    SkipSpace(&all, false);
    if (std::string_view(start_).starts_with(all) && all.size() < start_.size())
      return;  // may become the tag
    const std::string rest(all.starts_with(start_) ? all.substr(start_.size()) : std::string_view(opening_));
    state_ = all.starts_with(start_) ? State::kThinking : State::kContent;
    begun_ = state_ == State::kContent;
    Push(rest, out);
  }
  void Think(std::string_view text, std::vector<MessagePart>* out) {
    std::optional<std::string> after;
    Thought(end_.Push(text, &after), out);
    if (!after) return;
    state_ = State::kContent;
    begun_ = false;
    Content(*after, out);
  }
  void Thought(std::string_view text, std::vector<MessagePart>* out) {
    begun_ = SkipSpace(&text, begun_);
    if (!text.empty()) out->push_back({MessagePart::Kind::kReasoning, std::string(text), 0, false, {}});
  }
  void Content(std::string_view text, std::vector<MessagePart>* out) {
    begun_ = SkipSpace(&text, begun_);
    if (!text.empty()) inner_->Push(text, out);
  }

  const std::string start_;
  State state_;
  TagFinder end_;
  const std::unique_ptr<MessageParser> inner_;
  std::string opening_;
  bool begun_ = false;  // white space before thoughts and before the content is dropped
};

}  // namespace

std::unique_ptr<MessageParser> PlainContent() { return std::make_unique<Plain>(); }

std::unique_ptr<MessageParser> SplitReasoning(std::string start, std::vector<std::string> ends, bool thinking,
                                              std::unique_ptr<MessageParser> inner) {
  return std::make_unique<Reasoning>(std::move(start), std::move(ends), thinking, std::move(inner));
}

}  // namespace cyllm::llama
