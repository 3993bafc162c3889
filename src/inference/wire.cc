#include "inference/wire.h"

#include <algorithm>

#include "base/utf8.h"

namespace cyllm::wire {

namespace pb = cy::llm;

namespace {

template <class Message, class T>
std::vector<T> Vector(const google::protobuf::RepeatedField<Message>& in) {
  return std::vector<T>(in.begin(), in.end());
}

// What goes into a field of type string: a message with any other bytes in one is not read at all, and that
// is the end of the session for every request on it.
std::string Utf8(const std::string& text) { return IsValidUtf8(text) ? text : RepairUtf8(text); }

void PutOffsets(const Offsets& offsets, pb::Offsets* out) {
  out->set_tokens(offsets.tokens);
  out->set_text_bytes(offsets.text_bytes);
  out->set_reasoning_bytes(offsets.reasoning_bytes);
  out->set_tool_argument_bytes(offsets.tool_argument_bytes);
}

Offsets Get(const pb::Offsets& in) {
  return {in.tokens(), in.text_bytes(), in.reasoning_bytes(), in.tool_argument_bytes()};
}

void PutLogprob(const TokenLogprob& logprob, pb::TokenLogprob* out) {
  out->set_token_id(logprob.token_id);
  out->set_bytes(logprob.bytes);
  out->set_logprob(logprob.logprob);
  for (const TokenLogprob& top : logprob.top) PutLogprob(top, out->add_top());
}

TokenLogprob Get(const pb::TokenLogprob& in, bool nested = false) {
  TokenLogprob logprob{in.token_id(), in.bytes(), in.logprob(), {}};
  if (!nested) {
    for (const pb::TokenLogprob& top : in.top()) logprob.top.push_back(Get(top, true));
  }
  return logprob;
}

void PutRoute(const RouteReceipt& route, pb::RouteReceipt* out) {
  out->set_policy(Utf8(route.policy));
  out->set_prefix_hit(route.prefix_hit);
  out->set_queue_ms(route.queue_ms);
  out->set_attempts(route.attempts);
}

RouteReceipt GetRoute(const pb::RouteReceipt& in) {
  return {in.policy(), in.prefix_hit(), in.queue_ms(), in.attempts()};
}

Accepted GetAccepted(const pb::Accepted& in) {
  return {in.prompt_tokens(), in.cached_tokens(), in.worker(),
          in.digest(),        in.resumable(),     GetRoute(in.route())};
}

// A number from the wire as one of our enums with `count` values.
template <class E>
E EnumOf(int value, int count) {
  return static_cast<E>(value >= 0 && value < count ? value : 0);
}

}  // namespace

void Put(const RequestFacts& facts, pb::RequestFacts* out) {
  out->set_kind(static_cast<pb::RequestKind>(facts.kind));
  out->set_model(Utf8(facts.model));
  out->set_adapter(Utf8(facts.adapter));
  out->set_tenant(Utf8(facts.tenant));
  out->set_priority(facts.priority);
  out->set_prompt_tokens_estimate(facts.prompt_tokens_estimate);
  if (facts.max_tokens) out->set_max_tokens(*facts.max_tokens);
  out->set_choices(facts.choices);
  out->set_needs(facts.needs);
  out->mutable_prefix_hashes()->Add(facts.prefix_hashes.begin(), facts.prefix_hashes.end());
  if (facts.seed) out->set_seed(*facts.seed);
  out->set_response_id(Utf8(facts.response_id));
  if (facts.resume.epoch != 0 || !facts.resume.choices.empty()) {
    out->mutable_resume()->set_epoch(facts.resume.epoch);
    out->mutable_resume()->set_digest(Utf8(facts.resume.digest));
    for (const ChoiceResume& choice : facts.resume.choices) {
      pb::ChoiceResume* to = out->mutable_resume()->add_choices();
      to->mutable_token_ids()->Add(choice.token_ids.begin(), choice.token_ids.end());
      PutOffsets(choice.delivered, to->mutable_delivered());
    }
  }
  for (const std::string& worker : facts.avoid_workers) out->add_avoid_workers(Utf8(worker));
  out->set_worker_hint(Utf8(facts.worker_hint));
  out->set_affinity(facts.affinity);
}

RequestFacts Get(const pb::RequestFacts& in) {
  RequestFacts facts;
  facts.kind = EnumOf<Kind>(in.kind(), kKinds);
  facts.model = in.model();
  facts.adapter = in.adapter();
  facts.tenant = in.tenant();
  facts.priority = in.priority();
  facts.prompt_tokens_estimate = in.prompt_tokens_estimate();
  if (in.has_max_tokens()) facts.max_tokens = in.max_tokens();
  facts.choices = std::max(1u, in.choices());
  facts.needs = in.needs();
  facts.prefix_hashes = Vector<uint64_t, uint64_t>(in.prefix_hashes());
  if (in.has_seed()) facts.seed = in.seed();
  facts.response_id = in.response_id();
  facts.resume.epoch = in.resume().epoch();
  for (const pb::ChoiceResume& choice : in.resume().choices()) {
    facts.resume.choices.push_back({Vector<int32_t, int32_t>(choice.token_ids()), Get(choice.delivered())});
  }
  facts.resume.digest = in.resume().digest();
  facts.worker_hint = in.worker_hint();
  facts.affinity = in.affinity();
  facts.avoid_workers.assign(in.avoid_workers().begin(), in.avoid_workers().end());
  return facts;
}

namespace {

// All but the texts that may be large.
void PutSmall(const PayloadParts& parts, pb::Payload* out) {
  out->mutable_prompt_tokens()->Add(parts.prompt_tokens.begin(), parts.prompt_tokens.end());
  for (const Input& input : parts.inputs) {
    pb::Input* to = out->add_inputs();
    to->set_text(input.text);
    to->mutable_tokens()->Add(input.tokens.begin(), input.tokens.end());
  }
  out->set_dimensions(parts.dimensions);
  out->set_no_special_tokens(parts.no_special_tokens);
  out->set_echo(parts.echo);
  out->set_parallel_tool_calls(parts.parallel_tool_calls);
  const Sampling& from = parts.sampling;
  pb::Sampling* to = out->mutable_sampling();
  if (from.temperature) to->set_temperature(*from.temperature);
  if (from.top_p) to->set_top_p(*from.top_p);
  if (from.min_p) to->set_min_p(*from.min_p);
  if (from.top_k) to->set_top_k(*from.top_k);
  if (from.repetition_penalty) to->set_repetition_penalty(*from.repetition_penalty);
  if (from.presence_penalty) to->set_presence_penalty(*from.presence_penalty);
  if (from.frequency_penalty) to->set_frequency_penalty(*from.frequency_penalty);
  for (const auto& [token, bias] : from.logit_bias) {
    pb::LogitBias* entry = to->add_logit_bias();
    entry->set_token(token);
    entry->set_bias(bias);
  }
  for (const std::string& stop : from.stop) to->add_stop(Utf8(stop));
  to->mutable_stop_token_ids()->Add(from.stop_token_ids.begin(), from.stop_token_ids.end());
  to->set_ignore_eos(from.ignore_eos);
  to->set_min_tokens(from.min_tokens);
  to->set_logprobs(from.logprobs);
  to->set_top_logprobs(from.top_logprobs);
}

void PutVarint(uint64_t value, std::string* out) {
  for (; value >= 0x80; value >>= 7) *out += static_cast<char>(value | 0x80);
  *out += static_cast<char>(value);
}

}  // namespace

std::vector<std::string_view> Pieces(const PayloadParts& parts, std::string* small) {
  const std::pair<int, const std::string&> texts[] = {
      {pb::Payload::kMessagesJsonFieldNumber, parts.messages_json},
      {pb::Payload::kToolsJsonFieldNumber, parts.tools_json},
      {pb::Payload::kToolChoiceJsonFieldNumber, parts.tool_choice_json},
      {pb::Payload::kResponseFormatJsonFieldNumber, parts.response_format_json},
      {pb::Payload::kTemplateKwargsJsonFieldNumber, parts.template_kwargs_json},
      {pb::Payload::kPromptFieldNumber, parts.prompt},
      {pb::Payload::kSuffixFieldNumber, parts.suffix},
      {pb::Payload::kExtraJsonFieldNumber, parts.extra_json},
  };
  constexpr uint64_t kLengthDelimited = 2;
  pb::Payload message;
  PutSmall(parts, &message);
  message.SerializeToString(small);
  std::vector<std::pair<size_t, std::string_view>> after;  // where in `small` each text belongs
  for (const auto& [field, text] : texts) {
    if (text.empty()) continue;
    PutVarint(static_cast<uint64_t>(field) << 3 | kLengthDelimited, small);
    PutVarint(text.size(), small);
    after.emplace_back(small->size(), text);
  }
  std::vector<std::string_view> pieces;
  size_t done = 0;
  for (const auto& [end, text] : after) {
    pieces.push_back(std::string_view(*small).substr(done, end - done));
    pieces.push_back(text);
    done = end;
  }
  if (after.empty() && !small->empty()) pieces.push_back(*small);
  return pieces;
}

PayloadParts Get(pb::Payload in) {
  PayloadParts parts;
  parts.messages_json = std::move(*in.mutable_messages_json());
  parts.tools_json = std::move(*in.mutable_tools_json());
  parts.tool_choice_json = std::move(*in.mutable_tool_choice_json());
  parts.response_format_json = std::move(*in.mutable_response_format_json());
  parts.template_kwargs_json = std::move(*in.mutable_template_kwargs_json());
  parts.prompt = std::move(*in.mutable_prompt());
  parts.prompt_tokens = Vector<int32_t, int32_t>(in.prompt_tokens());
  parts.suffix = std::move(*in.mutable_suffix());
  parts.extra_json = std::move(*in.mutable_extra_json());
  for (pb::Input& from : *in.mutable_inputs())
    parts.inputs.push_back({std::move(*from.mutable_text()), Vector<int32_t, int32_t>(from.tokens())});
  parts.dimensions = in.dimensions();
  parts.no_special_tokens = in.no_special_tokens();
  parts.echo = in.echo();
  parts.parallel_tool_calls = in.parallel_tool_calls();
  const pb::Sampling& from = in.sampling();
  Sampling& to = parts.sampling;
  if (from.has_temperature()) to.temperature = from.temperature();
  if (from.has_top_p()) to.top_p = from.top_p();
  if (from.has_min_p()) to.min_p = from.min_p();
  if (from.has_top_k()) to.top_k = from.top_k();
  if (from.has_repetition_penalty()) to.repetition_penalty = from.repetition_penalty();
  if (from.has_presence_penalty()) to.presence_penalty = from.presence_penalty();
  if (from.has_frequency_penalty()) to.frequency_penalty = from.frequency_penalty();
  for (const pb::LogitBias& entry : from.logit_bias())
    to.logit_bias.emplace_back(entry.token(), entry.bias());
  to.stop.assign(from.stop().begin(), from.stop().end());
  to.stop_token_ids = Vector<int32_t, int32_t>(from.stop_token_ids());
  to.ignore_eos = from.ignore_eos();
  to.min_tokens = from.min_tokens();
  to.logprobs = from.logprobs();
  to.top_logprobs = from.top_logprobs();
  return parts;
}

void Put(const Context& context, TimePoint now, pb::CallContext* out) {
  if (context.deadline != kNever) {
    const auto left = std::chrono::duration_cast<Millis>(context.deadline - now).count();
    out->set_remaining_ms(static_cast<uint64_t>(std::max<int64_t>(0, left)));
  }
  out->set_traceparent(Utf8(context.traceparent));
  out->set_tracestate(Utf8(context.tracestate));
  out->set_request_id(Utf8(context.request_id));
}

Context Get(const pb::CallContext& in, TimePoint now) {
  Context context;
  if (in.has_remaining_ms()) {
    constexpr uint64_t kCentury = 100ull * 365 * 24 * 3600 * 1000;
    context.deadline = After(now, Millis(std::min(in.remaining_ms(), kCentury)));
  }
  context.traceparent = in.traceparent();
  context.tracestate = in.tracestate();
  context.request_id = in.request_id();
  return context;
}

void Put(const Event& event, pb::Event* out) {
  struct Visitor {
    pb::Event* out;
    void operator()(const Accepted& e) const {
      pb::Accepted* to = out->mutable_accepted();
      to->set_prompt_tokens(e.prompt_tokens);
      to->set_cached_tokens(e.cached_tokens);
      to->set_worker(Utf8(e.worker));
      to->set_digest(Utf8(e.digest));
      to->set_resumable(e.resumable);
      if (e.route != RouteReceipt{}) PutRoute(e.route, to->mutable_route());
    }
    void operator()(const Tried& e) const {
      out->mutable_tried()->set_worker(Utf8(e.worker));
      PutRoute(e.route, out->mutable_tried()->mutable_route());
    }
    void operator()(const Progress& e) const {
      out->mutable_progress()->set_phase(static_cast<pb::Progress::Phase>(e.phase));
      out->mutable_progress()->set_fraction(e.fraction);
      out->mutable_progress()->set_detail(Utf8(e.detail));
    }
    void operator()(const TextDelta& e) const {
      pb::TextDelta* to = out->mutable_text();
      to->set_choice(e.choice);
      to->set_text(e.text);
      to->mutable_token_ids()->Add(e.token_ids.begin(), e.token_ids.end());
      for (const TokenLogprob& logprob : e.logprobs) PutLogprob(logprob, to->add_logprobs());
      PutOffsets(e.end, to->mutable_end());
    }
    void operator()(const ReasoningDelta& e) const {
      pb::ReasoningDelta* to = out->mutable_reasoning();
      to->set_choice(e.choice);
      to->set_text(e.text);
      to->mutable_token_ids()->Add(e.token_ids.begin(), e.token_ids.end());
      PutOffsets(e.end, to->mutable_end());
    }
    void operator()(const ToolCallDelta& e) const {
      pb::ToolCallDelta* to = out->mutable_tool_call();
      to->set_choice(e.choice);
      to->set_index(e.index);
      to->set_id(Utf8(e.id));
      to->set_name(Utf8(e.name));
      to->set_arguments(e.arguments);
      to->mutable_token_ids()->Add(e.token_ids.begin(), e.token_ids.end());
      PutOffsets(e.end, to->mutable_end());
    }
    void operator()(const Finished& e) const {
      pb::Finished* to = out->mutable_finished();
      to->set_choice(e.choice);
      to->set_reason(static_cast<pb::FinishReason>(e.reason));
      to->set_stop_match(Utf8(e.stop_match));
      to->mutable_usage()->set_prompt_tokens(e.usage.prompt_tokens);
      to->mutable_usage()->set_cached_tokens(e.usage.cached_tokens);
      to->mutable_usage()->set_completion_tokens(e.usage.completion_tokens);
      to->mutable_usage()->set_reasoning_tokens(e.usage.reasoning_tokens);
      to->mutable_timings()->set_queue_ms(e.timings.queue_ms);
      to->mutable_timings()->set_ttft_ms(e.timings.ttft_ms);
      to->mutable_timings()->set_decode_ms(e.timings.decode_ms);
      to->set_resumed(e.resumed);
    }
    void operator()(const Values& e) const {
      out->mutable_values()->set_input(e.input);
      out->mutable_values()->mutable_values()->Add(e.values.begin(), e.values.end());
    }
  };
  std::visit(Visitor{out}, event);
}

Event Get(const pb::Event& in) {
  switch (in.kind_case()) {
    case pb::Event::kAccepted:
      return GetAccepted(in.accepted());
    case pb::Event::kText: {
      const pb::TextDelta& from = in.text();
      TextDelta delta{
          from.choice(), from.text(), Vector<int32_t, int32_t>(from.token_ids()), {}, Get(from.end())};
      for (const pb::TokenLogprob& logprob : from.logprobs()) delta.logprobs.push_back(Get(logprob));
      return delta;
    }
    case pb::Event::kReasoning: {
      const pb::ReasoningDelta& from = in.reasoning();
      return ReasoningDelta{from.choice(), from.text(), Vector<int32_t, int32_t>(from.token_ids()),
                            Get(from.end())};
    }
    case pb::Event::kToolCall: {
      const pb::ToolCallDelta& from = in.tool_call();
      return ToolCallDelta{from.choice(),  from.index(),     from.id(),
                           from.name(),    from.arguments(), Vector<int32_t, int32_t>(from.token_ids()),
                           Get(from.end())};
    }
    case pb::Event::kFinished: {
      const pb::Finished& from = in.finished();
      const pb::Usage& usage = from.usage();
      return Finished{
          from.choice(),
          EnumOf<FinishReason>(from.reason(), 4),
          from.stop_match(),
          {usage.prompt_tokens(), usage.cached_tokens(), usage.completion_tokens(), usage.reasoning_tokens()},
          {from.timings().queue_ms(), from.timings().ttft_ms(), from.timings().decode_ms()},
          from.resumed()};
    }
    case pb::Event::kProgress:
      return Progress{EnumOf<Progress::Phase>(in.progress().phase(), 2), in.progress().fraction(),
                      in.progress().detail()};
    case pb::Event::kTried:
      return Tried{in.tried().worker(), GetRoute(in.tried().route())};
    case pb::Event::kValues:
      return Values{in.values().input(), Vector<float, float>(in.values().values())};
    case pb::Event::KIND_NOT_SET:
      break;
  }
  return Progress{};
}

void Put(const Status& status, pb::Error* out) {
  out->set_code(static_cast<int>(status.code));
  out->set_message(Utf8(status.message));
  out->set_reason(Utf8(status.reason));
  out->set_param(Utf8(status.param));
  out->set_retry_after_ms(static_cast<uint32_t>(status.retry_after.count()));
  out->set_retryable(status.retryable);
}

Status Get(const pb::Error& in) {
  const Code code = in.code() >= 0 && in.code() <= 16 ? static_cast<Code>(in.code()) : Code::kUnknown;
  return Status{code, in.message(), in.reason(), in.param(), Millis(in.retry_after_ms()), in.retryable()};
}

void Put(const Snapshot& snapshot, pb::Snapshot* out) {
  for (const ModelInfo& model : snapshot.models) {
    pb::ModelInfo* to = out->add_models();
    to->set_id(Utf8(model.id));
    to->set_engine(Utf8(model.engine));
    to->set_state(static_cast<pb::ModelState>(model.state));
    to->set_max_model_len(model.max_model_len);
    to->set_capabilities(model.capabilities);
    to->set_created(model.created);
    to->set_digest(Utf8(model.digest));
    to->set_alias_of(Utf8(model.alias_of));
    for (const std::string& adapter : model.adapters) to->add_adapters(Utf8(adapter));
    to->set_memory_bytes(model.memory_bytes);
  }
  out->mutable_load()->set_running(snapshot.load.running);
  out->mutable_load()->set_waiting(snapshot.load.waiting);
  out->mutable_load()->set_max_running(snapshot.load.max_running);
  out->set_ready(snapshot.ready);
  for (const std::string& reason : snapshot.not_ready_reasons) out->add_not_ready_reasons(Utf8(reason));
}

Snapshot Get(const pb::Snapshot& in) {
  Snapshot snapshot;
  for (const pb::ModelInfo& from : in.models()) {
    snapshot.models.push_back({from.id(),
                               from.engine(),
                               EnumOf<ModelState>(from.state(), 5),
                               from.max_model_len(),
                               from.capabilities(),
                               from.created(),
                               from.digest(),
                               from.alias_of(),
                               {from.adapters().begin(), from.adapters().end()},
                               from.memory_bytes()});
  }
  std::sort(snapshot.models.begin(), snapshot.models.end(),
            [](const ModelInfo& a, const ModelInfo& b) { return a.id < b.id; });
  snapshot.load = {in.load().running(), in.load().waiting(), in.load().max_running()};
  snapshot.ready = in.ready();
  snapshot.not_ready_reasons.assign(in.not_ready_reasons().begin(), in.not_ready_reasons().end());
  return snapshot;
}

}  // namespace cyllm::wire
