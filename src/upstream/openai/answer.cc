#include "upstream/openai/answer.h"

#include <algorithm>
#include <boost/json.hpp>
#include <limits>

#include "upstream/openai/error.h"
#include "upstream/openai/logprobs.h"
#include "upstream/openai/values.h"

namespace cyllm::upstream {

namespace json = boost::json;

namespace {

constexpr uint32_t kMaxCalls = 128;  // of one choice

double Milliseconds(TimePoint from, TimePoint to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

}  // namespace

StreamAnswer::StreamAnswer(AnswerOptions options)
    : options_(std::move(options)), choices_(std::max(options_.choices, 1u)) {
  choices_.front().end = options_.begun;
  choices_.front().token_ids = options_.begun.tokens;
}

bool StreamAnswer::complete() const {
  return std::all_of(choices_.begin(), choices_.end(), [](const Choice& c) { return c.finished; });
}

// Reads one chunk into an answer.
struct StreamAnswer::Reader {
  StreamAnswer& answer;
  TimePoint now;
  Batch& out;
  size_t count = 0;        // of its choices
  Choice* last = nullptr;  // of those
  bool ends = false;       // it, with this chunk
  bool changed = false;    // events say something otherwise than the chunk
  bool says_more = false;  // than events can
  bool whole_usage = false;

  Status Chunk(const json::object& chunk) {
    if (const json::value* usage = chunk.if_contains("usage"); usage && usage->is_object()) {
      const uint32_t before = answer.options_.usage_per_choice ? answer.usage_.completion_tokens : 0;
      answer.usage_ = ReadUsage(usage->get_object());
      answer.usage_.completion_tokens += before;
      answer.has_usage_ = true;
      whole_usage = usage->get_object().contains("total_tokens");
    }
    Prompt(chunk);
    const json::value* list = chunk.if_contains("choices");
    if (!list || !list->is_array()) return answer.has_usage_ ? Status::Ok() : Garbage();
    count = list->get_array().size();
    if (!answer.accepted_) {
      answer.accepted_ = true;
      const AnswerOptions& options = answer.options_;
      out.push_back(Accepted{std::max(answer.usage_.prompt_tokens, answer.prompt_token_ids_),
                             answer.usage_.cached_tokens,
                             options.worker,
                             options.digest,
                             options.resumable,
                             {}});
    }
    for (const json::value& value : list->get_array()) {
      if (!value.is_object()) return Garbage();
      if (Status status = OfChoice(value.get_object()); !status.ok()) return status;
    }
    return Status::Ok();
  }

  // Prompt ids come on the chunk (chat) or on the first choice (completions).
  void Prompt(const json::object& object) {
    if (const json::value* ids = object.if_contains("prompt_token_ids"); ids && ids->is_array())
      answer.prompt_token_ids_ = static_cast<uint32_t>(ids->get_array().size());
    const json::value* choices = object.if_contains("choices");
    if (choices && choices->is_array() && !choices->get_array().empty() &&
        choices->get_array().front().is_object() && answer.prompt_token_ids_ == 0)
      Prompt(choices->get_array().front().get_object());
  }

  Status OfChoice(const json::object& object) {
    const int64_t index = ReadInteger(object, "index").value_or(0);
    if (index < 0 || index >= static_cast<int64_t>(answer.choices_.size())) return Garbage();
    const auto number = static_cast<uint32_t>(index);
    Choice& choice = answer.choices_[number];
    last = &choice;
    const json::value* reason = object.if_contains("finish_reason");
    const bool finishes = reason && reason->is_string();
    if (choice.finished) return Status::Ok();  // some repeat an empty delta after the end

    const bool hidden = answer.options_.ids_by_logprobs;
    const std::optional<std::vector<int32_t>> ids =
        hidden ? ReadLogprobIds(object) : ReadIds(object, "token_ids");
    Delta delta{number, choice, ids.value_or(std::vector<int32_t>()), ids.has_value()};
    if (answer.options_.kind == Kind::kChat) {
      const json::value* inner = object.if_contains("delta");
      if (inner && inner->is_object()) {
        if (Status status = ChatDelta(delta, inner->get_object(), object); !status.ok()) return status;
      }
    } else {
      Text(delta, ReadText(object, "text"),
           hidden ? std::vector<TokenLogprob>() : ReadCompletionLogprobs(object));
    }
    // Ids of a token that shows nothing yet.
    if (!delta.ids.empty()) Text(delta, "", {});
    if (!finishes) return Status::Ok();
    choice.finished = ends = true;
    choice.stop_match = ReadText(object, "stop_reason");
    return Reason(choice, reason->get_string());
  }

  struct Delta {
    uint32_t number;
    Choice& choice;
    std::vector<int32_t> ids;
    bool has_ids;
  };

  Status ChatDelta(Delta& delta, const json::object& object, const json::object& choice) {
    std::string_view reasoning = ReadText(object, "reasoning_content");
    if (reasoning.empty()) {
      reasoning = ReadText(object, "reasoning");
      changed |= !reasoning.empty();
    }
    if (!reasoning.empty()) {
      ReasoningDelta event{delta.number, std::string(reasoning), {}, {}};
      delta.choice.end.reasoning_bytes += reasoning.size();
      event.token_ids = Count(delta, event.end);
      delta.choice.reasoning_tokens += std::max<size_t>(event.token_ids.size(), 1);
      out.push_back(std::move(event));
    }
    says_more |= answer.options_.verbatim && SaysMore(object);
    const json::value* calls = object.if_contains("tool_calls");
    std::vector<TokenLogprob> logprobs;
    if (!answer.options_.ids_by_logprobs) logprobs = ReadChatLogprobs(choice);
    const std::string_view content = ReadText(object, "content");
    if (!content.empty() || !logprobs.empty()) Text(delta, content, std::move(logprobs));
    if (calls && calls->is_array()) {
      for (const json::value& call : calls->get_array()) {
        if (!call.is_object()) return Garbage();
        if (Status status = ToolCall(delta, call.get_object()); !status.ok()) return status;
      }
    }
    return Status::Ok();
  }

  // Pieces that no event has a place for: `refusal`, say.
  static bool SaysMore(const json::object& delta) {
    constexpr std::string_view kKnown[] = {"role", "content", "reasoning_content", "reasoning", "tool_calls"};
    return std::any_of(delta.begin(), delta.end(), [&](const json::key_value_pair& member) {
      const std::string_view key = member.key();
      return !member.value().is_null() && std::ranges::find(kKnown, key) == std::end(kKnown);
    });
  }

  void Text(Delta& delta, std::string_view text, std::vector<TokenLogprob> logprobs) {
    if (text.empty() && logprobs.empty() && delta.ids.empty()) return;
    TextDelta event{delta.number, std::string(text), {}, std::move(logprobs), {}};
    delta.choice.end.text_bytes += text.size();
    event.token_ids = Count(delta, event.end, event.logprobs.size());
    for (size_t i = 0; i < event.logprobs.size(); ++i)
      event.logprobs[i].token_id = event.token_ids.size() == event.logprobs.size() ? event.token_ids[i] : -1;
    out.push_back(std::move(event));
  }

  // Hands the chunk's ids to the first event made of it and sets where the choice stands now. Servers that
  // give no ids send about a token a chunk.
  std::vector<int32_t> Count(Delta& delta, Offsets& end, size_t at_least = 1) {
    Choice& choice = delta.choice;
    std::vector<int32_t> ids = std::exchange(delta.ids, {});
    if (!delta.has_ids) choice.ids_known = false;
    choice.token_ids += ids.size();
    choice.end.tokens += delta.has_ids ? ids.size() : std::max<size_t>(at_least, 1);
    if (choice.first == TimePoint{}) choice.first = now;
    choice.last = now;
    end = choice.end;
    return ids;
  }

  Status ToolCall(Delta& delta, const json::object& call) {
    Choice& choice = delta.choice;
    const std::string_view id = ReadText(call, "id");
    const json::value* function = call.if_contains("function");
    const json::object none;
    const json::object& inside = function && function->is_object() ? function->get_object() : none;
    const std::string_view name = ReadText(inside, "name");
    std::optional<int64_t> index = ReadInteger(call, "index");
    changed |= !index || id.empty() != name.empty() || (!id.empty() && !call.contains("type"));
    if (!index) {  // a new id is a new call, no id goes on with the last
      const auto known = std::find(choice.call_ids.begin(), choice.call_ids.end(), id);
      index = id.empty() && !choice.call_ids.empty() ? static_cast<int64_t>(choice.call_ids.size()) - 1
                                                     : known - choice.call_ids.begin();
    }
    if (*index < 0 || *index >= kMaxCalls) return Garbage();
    const auto at = static_cast<size_t>(*index);
    if (at >= choice.call_ids.size()) {
      choice.call_ids.resize(at + 1);
      choice.calls_begun.resize(at + 1);
    }
    ToolCallDelta event;
    event.choice = delta.number;
    event.index = static_cast<uint32_t>(at);
    changed |= choice.calls_begun[at] != id.empty();
    if (!choice.calls_begun[at]) {
      if (name.empty()) return Garbage();
      choice.calls_begun[at] = true;
      choice.call_ids[at] = id.empty() ? "call_" + std::to_string(at) : std::string(id);
      event.id = choice.call_ids[at];
      event.name = std::string(name);
    }
    event.arguments = Arguments(inside);
    choice.end.tool_argument_bytes += event.arguments.size();
    event.token_ids = Count(delta, event.end);
    out.push_back(std::move(event));
    return Status::Ok();
  }

  // A piece of JSON text; some give the object itself.
  std::string Arguments(const json::object& function) {
    const json::value* value = function.if_contains("arguments");
    if (!value || value->is_null()) return {};
    changed |= !value->is_string();
    return value->is_string() ? std::string(value->get_string()) : json::serialize(*value);
  }

  Status Reason(Choice& choice, std::string_view reason) {
    if (reason == "length" || reason == "max_tokens") {
      choice.reason = FinishReason::kLength;
    } else if (reason == "tool_calls" || reason == "function_call") {
      choice.reason = FinishReason::kToolCalls;
    } else if (reason == "content_filter") {
      choice.reason = FinishReason::kContentFilter;
    } else if (reason == "abort" || reason == "error") {
      choice.finished = false;
      return FromErrorJson(R"({"message":"finish_reason abort","code":500})");
    } else {
      // A forced call ends with `stop` on some.
      choice.reason = choice.call_ids.empty() ? FinishReason::kStop : FinishReason::kToolCalls;
    }
    return Status::Ok();
  }
};

Status StreamAnswer::OnData(std::string_view data, TimePoint now, Batch& out, std::string* detail) {
  if (done_) return Status::Ok();
  if (data == "[DONE]") {
    done_ = true;
    return Status::Ok();
  }
  unsigned char memory[8192];
  json::monotonic_resource resource(memory, sizeof memory);
  json::error_code ec;
  const json::value value = json::parse(data, ec, &resource);
  if (ec || !value.is_object()) return Garbage();
  const json::object& chunk = value.get_object();
  if (const json::value* error = chunk.if_contains("error"); error && !error->is_null())
    return FromErrorJson(data, detail);
  if (const json::value* object = chunk.if_contains("object"); object && *object == "error")
    return FromErrorJson(data, detail);
  const size_t begin = out.size();
  Reader reader{*this, now, out};
  Status status = reader.Chunk(chunk);
  if (status.ok() && options_.verbatim) Keep(data, reader, begin, out);
  return status;
}

void StreamAnswer::Keep(std::string_view data, const Reader& reader, size_t begin, Batch& out) {
  if (data.find('\n') != data.npos || data.find('\r') != data.npos) return;  // a frame is one line
  if (reader.whole_usage && choices_.size() == 1) usage_chunk_ = UsageMembers(data, reader.count > 0);
  if (reader.count != 1) return;
  Choice& choice = *reader.last;
  const auto deltas = std::count_if(out.begin() + static_cast<ptrdiff_t>(begin), out.end(), IsDelta);
  if (deltas == 0 && reader.says_more && !choice.finished) {
    const auto number = static_cast<uint32_t>(&choice - choices_.data());
    out.push_back(TextDelta{number, {}, {}, {}, choice.end, DeltaMembers(data, options_.hidden, false)});
  }
  if (deltas == 1 && !reader.changed) {
    const auto put = [&](auto& event) {
      if constexpr (requires { event.chunk; }) event.chunk = DeltaMembers(data, options_.hidden, reader.ends);
    };
    std::visit(put, out.back());
  }
  if (reader.ends) choice.end_chunk = EndMembers(data, options_.hidden, choice.reason, deltas > 0);
}

Status StreamAnswer::OnEnd(Batch& out) {
  if (!complete()) {
    Status s = MakeStatus(Code::kUnavailable, "the model's server broke off its answer", "upstream_died");
    s.retryable = true;
    return s;
  }
  // Of several choices only the sum is told: by their ids where the server gave them, the rest on the last.
  uint64_t left = has_usage_ ? usage_.completion_tokens + options_.begun.tokens : 0;
  for (size_t i = 0; i < choices_.size(); ++i) {
    const Choice& choice = choices_[i];
    uint64_t tokens = choice.ids_known ? choice.token_ids : choice.end.tokens;
    if (has_usage_) {
      tokens = i + 1 == choices_.size() ? left : std::min(tokens, left);
      left -= tokens;
    }
    Finished finished;
    finished.choice = static_cast<uint32_t>(i);
    finished.reason = choice.reason;
    finished.chunk = choice.end_chunk;
    if (choices_.size() == 1) finished.usage_chunk = usage_chunk_;
    finished.stop_match = choice.stop_match;
    finished.usage.prompt_tokens = has_usage_ ? usage_.prompt_tokens : prompt_token_ids_;
    finished.usage.cached_tokens = usage_.cached_tokens;
    finished.usage.completion_tokens =
        static_cast<uint32_t>(std::min<uint64_t>(tokens, std::numeric_limits<uint32_t>::max()));
    finished.usage.reasoning_tokens = static_cast<uint32_t>(
        choices_.size() == 1 && usage_.reasoning_tokens ? usage_.reasoning_tokens : choice.reasoning_tokens);
    if (choice.first != TimePoint{}) {
      finished.timings.ttft_ms = Milliseconds(options_.start, choice.first);
      finished.timings.decode_ms = Milliseconds(choice.first, choice.last);
    }
    out.push_back(std::move(finished));
  }
  return Status::Ok();
}

}  // namespace cyllm::upstream
