#include "inference/legacy.h"

#include <algorithm>
#include <array>
#include <boost/json.hpp>

#include "base/log.h"
#include "base/utf8.h"
#include "inference/wire.h"

namespace cyllm::legacy {
namespace {

namespace json = boost::json;
namespace pb = cy::llm;

// The text of a message's content: a string, or the text parts of an array.
std::string ContentText(const json::value& content) {
  if (const json::string* text = content.if_string()) return std::string(*text);
  std::string joined;
  if (const json::array* parts = content.if_array()) {
    for (const json::value& part : *parts) {
      const json::object* object = part.if_object();
      const json::value* text = object ? object->if_contains("text") : nullptr;
      if (text && text->is_string()) joined += std::string_view(text->get_string());
    }
  }
  return joined;
}

std::string Field(const json::value& message, std::string_view key) {
  const json::object* object = message.if_object();
  const json::value* value = object ? object->if_contains(key) : nullptr;
  return value ? ContentText(*value) : std::string();
}

double Milliseconds(Clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

}  // namespace

std::string FlattenPrompt(const std::string& messages_json) {
  json::error_code error;
  const json::value parsed = json::parse(messages_json, error);
  const json::array* messages = error ? nullptr : parsed.if_array();
  if (!messages) return {};
  if (messages->size() == 1 && Field(messages->front(), "role") == "user")
    return Field(messages->front(), "content");
  std::string prompt;
  for (const json::value& message : *messages) {
    const std::string role = Field(message, "role");
    const char* label = role == "system" || role == "developer" ? "System"
                        : role == "user"                        ? "User"
                        : role == "assistant"                   ? "Assistant"
                                                                : nullptr;
    if (label) prompt += std::string(label) + ": " + Field(message, "content") + "\n";
  }
  return prompt + "Assistant:";
}

Status PutRequest(const Request& request, const Context& context, pb::StreamPredictRequest* out) {
  const auto parts = request.payload->parts();
  if (!parts) return parts.error();
  const PayloadParts& payload = **parts;
  out->set_model_id(request.facts.model);
  out->set_prompt(request.facts.kind == Kind::kChat ? FlattenPrompt(payload.messages_json) : payload.prompt);
  out->set_adapter(request.facts.adapter);
  out->set_priority(request.facts.priority);
  pb::GenerationParameters* generation = out->mutable_generation();
  if (request.facts.max_tokens) generation->set_max_new_tokens(*request.facts.max_tokens);
  if (payload.sampling.temperature) generation->set_temperature(*payload.sampling.temperature);
  if (payload.sampling.top_p) generation->set_top_p(*payload.sampling.top_p);
  if (payload.sampling.repetition_penalty)
    generation->set_repetition_penalty(*payload.sampling.repetition_penalty);
  out->mutable_metadata()->set_trace_id(context.request_id);
  out->mutable_metadata()->set_tenant(request.facts.tenant);
  wire::Put(request.facts, out->mutable_facts());
  out->set_payload(request.payload->bytes());
  wire::Put(context, Clock::now(), out->mutable_context());
  return Status::Ok();
}

Result<std::pair<Request, Context>> GetRequest(pb::StreamPredictRequest in, size_t max_prompt_chars,
                                               TimePoint now) {
  Request request;
  Context context = wire::Get(in.context(), now);
  if (in.has_facts()) {
    request.facts = wire::Get(in.facts());
    request.payload = Payload::FromBytes(std::move(*in.mutable_payload()));
    return std::pair{std::move(request), std::move(context)};
  }
  if (max_prompt_chars > 0 && in.prompt().size() > max_prompt_chars &&
      CountCodePoints(in.prompt()) > max_prompt_chars) {
    return Err(
        InvalidArgument("Prompt exceeds " + std::to_string(max_prompt_chars) + " characters", "prompt"));
  }
  if (std::all_of(in.prompt().begin(), in.prompt().end(), [](unsigned char c) { return std::isspace(c); })) {
    return Err(InvalidArgument("Prompt is empty", "prompt"));
  }
  request.facts.kind = Kind::kChat;
  request.facts.model = in.model_id();
  request.facts.adapter = in.adapter();
  request.facts.priority = in.priority();
  request.facts.tenant = in.metadata().tenant();
  request.facts.worker_hint = in.worker_hint();
  request.facts.needs = kCapChat;
  request.facts.prompt_tokens_estimate = static_cast<uint32_t>(in.prompt().size() / 4 + 1);
  PayloadParts parts;
  parts.messages_json = R"([{"role":"user","content":")" + JsonEscape(in.prompt()) + "\"}]";
  const pb::GenerationParameters& generation = in.generation();  // 0 means unset here
  if (generation.max_new_tokens() > 0) request.facts.max_tokens = generation.max_new_tokens();
  if (generation.temperature() > 0) parts.sampling.temperature = generation.temperature();
  if (generation.top_p() > 0) parts.sampling.top_p = generation.top_p();
  if (generation.repetition_penalty() > 0)
    parts.sampling.repetition_penalty = generation.repetition_penalty();
  request.payload = Payload::Of(std::move(parts));
  context.request_id = in.metadata().trace_id();
  return std::pair{std::move(request), std::move(context)};
}

bool ResponseWriter::Write(const Event& event, TimePoint now, pb::StreamPredictResponse* out) {
  out->set_trace_id(trace_id_);
  wire::Put(event, out->add_events());
  if (const auto* progress = std::get_if<Progress>(&event)) {
    if (progress->phase != Progress::Phase::kLoading) return false;
    std::string chunk = kLoadingMarker;
    if (progress->fraction >= 0)
      chunk += " " + std::to_string(static_cast<int>(progress->fraction * 100)) + "%";
    if (!progress->detail.empty()) chunk += " " + progress->detail;
    out->set_chunk(chunk + "\n");
    out->set_index(index_++);
    return true;
  }
  if (!IsDelta(event)) return false;
  if (first_token_ == kNever) first_token_ = now;
  const auto* text = std::get_if<TextDelta>(&event);
  if (!text) return false;
  tokens_ = std::max(tokens_, text->end.tokens);  // old workers' deltas carry no token ids
  if (text->text.empty()) return false;
  out->set_chunk(text->text);
  out->set_index(index_++);
  return true;
}

void ResponseWriter::WriteEnd(TimePoint now, pb::StreamPredictResponse* out) {
  out->set_trace_id(trace_id_);
  out->set_end_of_stream(true);
  out->set_index(index_);
  if (first_token_ == kNever) return;
  out->set_ttft_ms(static_cast<float>(Milliseconds(first_token_ - start_)));
  const double decode_ms = Milliseconds(now - first_token_);
  if (decode_ms > 0)
    out->set_tokens_per_sec(static_cast<float>(static_cast<double>(tokens_) * 1000.0 / decode_ms));
}

Status ResponseReader::Read(const pb::StreamPredictResponse& in, Batch* out) {
  if (in.events_size() > 0) {
    for (const pb::Event& event : in.events()) {
      out->push_back(wire::Get(event));
      accepted_ |= std::holds_alternative<Accepted>(out->back());
      finished_ |= std::holds_alternative<Finished>(out->back());
    }
    return Status::Ok();
  }
  if (in.has_error()) return wire::Get(in.error());
  if (in.end_of_stream() && in.chunk() == "worker_not_configured") {
    return Unavailable("no worker is configured", "no_worker");
  }
  if (in.chunk().find(kLoadingMarker) != std::string::npos) {
    out->push_back(Progress{Progress::Phase::kLoading, -1, {}});
    return Status::Ok();
  }
  if (!accepted_ && !finished_) {
    accepted_ = true;
    out->push_back(Accepted{prompt_tokens_, 0, {}});
  }
  if (!in.chunk().empty()) {
    ++offsets_.tokens;  // a chunk is the nearest thing to a token that old peers tell
    offsets_.text_bytes += in.chunk().size();
    out->push_back(TextDelta{0, in.chunk(), {}, {}, offsets_});
  }
  if (in.end_of_stream() && !finished_) {
    finished_ = true;
    Finished finished;
    finished.usage = {prompt_tokens_, 0, static_cast<uint32_t>(offsets_.tokens), 0};
    finished.timings.ttft_ms = in.ttft_ms();
    if (in.tokens_per_sec() > 0) {
      finished.timings.decode_ms =
          1000.0 * static_cast<double>(offsets_.tokens) / static_cast<double>(in.tokens_per_sec());
    }
    out->push_back(std::move(finished));
  }
  return Status::Ok();
}

Status FromPeer(Code code, const std::string& details) {
  if (code == Code::kUnknown || code == Code::kInternal) {
    // "<_InactiveRpcError of RPC that terminated with:\n\tstatus = StatusCode.NOT_FOUND\n\tdetails =
    // \"...\"..."
    static constexpr std::string_view kMark = "StatusCode.";
    const size_t at = details.find(kMark);
    if (at != std::string::npos) {
      const std::string_view rest = std::string_view(details).substr(at + kMark.size());
      for (int c = 1; c <= 16; ++c) {
        const std::string_view name = CodeName(static_cast<Code>(c));
        if (!rest.starts_with(name) ||
            (rest.size() > name.size() && (std::isalpha(rest[name.size()]) || rest[name.size()] == '_'))) {
          continue;
        }
        std::string inner;
        static constexpr std::string_view kDetails = "details = \"";
        const size_t from = rest.find(kDetails);
        if (from != std::string_view::npos) {
          inner = rest.substr(from + kDetails.size());
          inner.resize(std::min(inner.size(), inner.find('"')));
        }
        return FromPeer(static_cast<Code>(c) == Code::kUnknown ? Code::kInternal : static_cast<Code>(c),
                        inner);
      }
    }
  }
  switch (code) {
    case Code::kOk:
      return Status::Ok();
    case Code::kInvalidArgument:
      return MakeStatus(code, details);
    case Code::kNotFound:
      return MakeStatus(code, details, "model_not_found", "model");
    case Code::kResourceExhausted:
      return Status{code,         "the worker is overloaded or failed to run the request",
                    "overloaded", {},
                    Millis(1000), true};
    case Code::kUnavailable:
      return Unavailable("the worker is not reachable", "connection_lost");
    case Code::kCancelled:
    case Code::kDeadlineExceeded:
    case Code::kUnimplemented:
      return MakeStatus(code, std::string(CodeName(code)));
    case Code::kUnauthenticated:
    case Code::kPermissionDenied:
      return MakeStatus(Code::kInternal, "the worker refused this server's internal token", "internal_token");
    default:
      return MakeStatus(code, "the worker failed to run the request", "worker_failed");
  }
}

}  // namespace cyllm::legacy
