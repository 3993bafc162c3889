#include "upstream/openai/request.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>

#include "base/utf8.h"
#include "upstream/openai/continuation.h"

namespace cyllm::upstream {

namespace json = boost::json;

namespace {

// An object that grows by its members.
class Body {
 public:
  Body() : text_("{") {}
  void Raw(std::string_view key, std::string_view json) {
    if (text_.size() > 1) text_ += ',';
    text_ += '"';
    AppendJsonEscaped(text_, key);
    text_ += "\":";
    text_ += json;
    keys_.emplace_back(key);
  }
  void Text(std::string_view key, std::string_view value) {
    Raw(key, "\"");
    AppendJsonEscaped(text_, value);
    text_ += '"';
  }
  void Number(std::string_view key, double value) { Raw(key, fmt::format("{}", value)); }
  void Integer(std::string_view key, int64_t value) { Raw(key, fmt::format("{}", value)); }
  void True(std::string_view key) { Raw(key, "true"); }
  bool Has(std::string_view key) const { return std::ranges::find(keys_, key) != keys_.end(); }
  std::string Take() && { return std::move(text_) + "}"; }

 private:
  std::string text_;
  std::vector<std::string> keys_;
};

// Fields that clients cannot set: other names of our limits, what identifies a request, which adapter or part
// of a server answers, the form of its answer, and whom a server is to talk to.
constexpr std::string_view kOurs[] = {"n_predict",
                                      "n_cmpl",
                                      "max_new_tokens",
                                      "max_length",
                                      "best_of",
                                      "use_beam_search",
                                      "stream",
                                      "stream_options",
                                      "request_id",
                                      "rid",
                                      "kv_transfer_params",
                                      "bootstrap_host",
                                      "bootstrap_port",
                                      "bootstrap_room",
                                      "disaggregated_params",
                                      "ec_transfer_params",
                                      "data_parallel_rank",
                                      "id_slot",
                                      "lora",
                                      "lora_path",
                                      "response_fields"};

std::string Ids(const std::vector<int32_t>& ids) { return fmt::format("[{}]", fmt::join(ids, ",")); }

std::string Texts(const std::vector<std::string>& texts) {
  std::string out = "[";
  for (const std::string& text : texts) {
    out += out.size() > 1 ? ",\"" : "\"";
    AppendJsonEscaped(out, text);
    out += '"';
  }
  return out + ']';
}

Status Unsupported(std::string_view param) {
  return MakeStatus(Code::kUnimplemented, fmt::format("the model's server does not know '{}'", param),
                    "unsupported", std::string(param));
}

class Mapper {
 public:
  Mapper(const Profile& profile, std::string_view model, const RequestFacts& facts, const PayloadParts& parts)
      : profile_(profile), facts_(facts), parts_(parts) {
    if (!facts.adapter.empty() && !profile.adapter_as_model) Refuse("adapter");
    body_.Text("model", facts.adapter.empty() ? model : facts.adapter);
  }

  Result<HttpCall> Map() {
    HttpCall call;
    switch (facts_.kind) {
      case Kind::kChat:
        call = {"/v1/chat/completions", {}, true};
        Chat();
        break;
      case Kind::kText:
      case Kind::kTokens:
        call = {"/v1/completions", {}, true};
        Completion();
        break;
      case Kind::kEmbed:
        call.path = "/v1/embeddings";
        Embed();
        break;
      case Kind::kRerank:
        call.path = profile_.rerank;
        if (call.path.empty()) Refuse("");
        Rerank();
        break;
      case Kind::kTokenize:
        call.path = "/tokenize";
        Tokenize();
        break;
      case Kind::kDetokenize:
        call.path = "/detokenize";
        if (profile_.tokenize == TokenizeForm::kNone) Refuse("");
        body_.Raw("tokens", Ids(parts_.prompt_tokens));
        break;
    }
    Others();
    if (!status_.ok()) return Err(status_);
    call.body = std::move(body_).Take();
    return call;
  }

 private:
  void Refuse(std::string_view param) {
    if (status_.ok()) status_ = Unsupported(param);
  }
  // True when the server knows the field; else the request is refused.
  bool Know(Field field, std::string_view name) {
    if (profile_.fields & field) return true;
    Refuse(name);
    return false;
  }

  void Others() {
    if (parts_.extra_json.empty() || !(profile_.fields & kOthers)) return;
    json::error_code ec;
    json::parse_options options;
    options.max_depth = 64;  // as bodies may have
    const json::value others = json::parse(parts_.extra_json, ec, {}, options);
    if (ec || !others.is_object()) return;
    for (const auto& [key, value] : others.get_object())
      if (!body_.Has(key) && std::ranges::find(kOurs, std::string_view(key)) == std::end(kOurs))
        body_.Raw(key, json::serialize(value));
  }

  void Generation(std::string_view max_tokens) {
    body_.True("stream");
    body_.Raw("stream_options", R"({"include_usage":true})");
    if (facts_.max_tokens) body_.Integer(max_tokens, *facts_.max_tokens);
    if (facts_.choices > 1 && Know(kChoices, "n")) body_.Integer("n", facts_.choices);
    if (facts_.seed && Know(kSeed, "seed")) body_.Integer("seed", *facts_.seed);
    if (facts_.priority != 0 && profile_.priority) body_.Integer("priority", facts_.priority);
    if (profile_.token_ids) body_.True("return_token_ids");
    if (profile_.ids_by_logprobs && CanContinue(profile_, facts_, parts_)) {
      body_.Integer("n_probs", 1);
      body_.True("post_sampling_probs");  // of the candidates: nothing has to be sorted for it
    }
    const Sampling& s = parts_.sampling;
    // The one best token, by other means, where the server refuses several choices of it.
    const bool greedy = s.temperature && *s.temperature == 0;
    const bool by_top_k = greedy && facts_.choices > 1 && profile_.greedy_alone;
    if (s.temperature) body_.Number("temperature", by_top_k ? 1 : *s.temperature);
    if (by_top_k) {
      body_.Integer("top_k", 1);
    } else if (s.top_k && Know(kTopK, "top_k")) {
      body_.Integer("top_k", *s.top_k);
    }
    if (s.top_p) body_.Number("top_p", *s.top_p);
    if (s.min_p && Know(kMinP, "min_p")) body_.Number("min_p", *s.min_p);
    if (s.repetition_penalty && Know(kRepetitionPenalty, "repetition_penalty"))
      body_.Number(profile_.repetition_penalty, *s.repetition_penalty);
    if (s.presence_penalty) body_.Number("presence_penalty", *s.presence_penalty);
    if (s.frequency_penalty) body_.Number("frequency_penalty", *s.frequency_penalty);
    if (!s.stop.empty()) body_.Raw("stop", Texts(s.stop));
    if (!s.stop_token_ids.empty() && Know(kStopTokenIds, "stop_token_ids"))
      body_.Raw("stop_token_ids", Ids(s.stop_token_ids));
    if (s.ignore_eos && Know(kIgnoreEos, "ignore_eos")) body_.True("ignore_eos");
    if (s.min_tokens > 0 && Know(kMinTokens, "min_tokens")) body_.Integer("min_tokens", s.min_tokens);
    if (!s.logit_bias.empty() && Know(kLogitBias, "logit_bias")) {
      std::string biases = "{";
      for (const auto& [token, bias] : s.logit_bias)
        biases += fmt::format("{}\"{}\":{}", biases.size() > 1 ? "," : "", token, bias);
      body_.Raw("logit_bias", biases + '}');
    }
  }

  void Chat() {
    body_.Raw("messages", parts_.messages_json);
    Generation(profile_.max_tokens);
    if (parts_.sampling.logprobs) {
      body_.True("logprobs");
      if (parts_.sampling.top_logprobs > 0) body_.Integer("top_logprobs", parts_.sampling.top_logprobs);
    }
    if (!parts_.tools_json.empty()) {
      const bool named = parts_.tool_choice_json.starts_with('{');
      const bool forced = !parts_.tool_choice_json.empty() && parts_.tool_choice_json != "\"auto\"" &&
                          parts_.tool_choice_json != "\"none\"";
      if (named && profile_.words_only) {
        body_.Raw("tools", TheNamed(parts_.tools_json, parts_.tool_choice_json));
        body_.Text("tool_choice", "required");
      } else {
        body_.Raw("tools", forced && profile_.strict_tools ? Strict(parts_.tools_json) : parts_.tools_json);
        if (!parts_.tool_choice_json.empty()) body_.Raw("tool_choice", parts_.tool_choice_json);
      }
      if (!parts_.parallel_tool_calls && Know(kParallelToolCalls, "parallel_tool_calls"))
        body_.Raw("parallel_tool_calls", "false");
    }
    if (!parts_.response_format_json.empty()) body_.Raw("response_format", parts_.response_format_json);
    if (!parts_.template_kwargs_json.empty()) TemplateArguments();
  }

  // `reasoning_effort` alone, which the gateway puts there, is a field of OpenAI's.
  void TemplateArguments() {
    if (profile_.fields & kTemplateKwargs)
      return body_.Raw("chat_template_kwargs", parts_.template_kwargs_json);
    json::error_code ec;
    const json::value value = json::parse(parts_.template_kwargs_json, ec);
    const json::object* arguments = value.if_object();
    const json::value* effort = arguments ? arguments->if_contains("reasoning_effort") : nullptr;
    if (!effort || arguments->size() != 1) return Refuse("chat_template_kwargs");
    if (!(profile_.fields & kOthers)) return Refuse("reasoning_effort");
    body_.Raw("reasoning_effort", json::serialize(*effort));
  }

  // Tools whose arguments follow their schema: where a call is forced, it is promised to be valid.
  static std::string Strict(const std::string& tools_json) {
    json::error_code ec;
    json::value tools = json::parse(tools_json, ec);
    if (ec || !tools.is_array()) return tools_json;
    for (json::value& tool : tools.get_array()) {
      json::object* object = tool.if_object();
      json::value* function = object ? object->if_contains("function") : nullptr;
      if (function && function->is_object() && function->get_object().contains("parameters"))
        function->get_object()["strict"] = true;
    }
    return json::serialize(tools);
  }

  // The one tool that the choice names.
  static std::string TheNamed(const std::string& tools_json, const std::string& choice_json) {
    json::error_code ec;
    json::value tools = json::parse(tools_json, ec);
    if (ec || !tools.is_array()) return tools_json;
    const json::value choice = json::parse(choice_json, ec);
    const json::value* name = ec ? nullptr : choice.find_pointer("/function/name", ec);
    if (!name) return tools_json;
    json::array kept;
    for (const json::value& tool : tools.get_array()) {
      const json::value* other = tool.find_pointer("/function/name", ec);
      if (other && *other == *name) kept.push_back(tool);
    }
    return json::serialize(kept);
  }

  void Completion() {
    if (facts_.kind == Kind::kTokens) {
      body_.Raw("prompt", Ids(parts_.prompt_tokens));
    } else {
      body_.Text("prompt", parts_.prompt);
    }
    if (!parts_.suffix.empty()) body_.Text("suffix", parts_.suffix);
    Generation("max_tokens");
    if (parts_.echo) body_.True("echo");
    if (parts_.sampling.logprobs) body_.Integer("logprobs", parts_.sampling.top_logprobs);
    if (!parts_.response_format_json.empty()) body_.Raw("response_format", parts_.response_format_json);
  }

  void Embed() {
    std::string inputs = "[";
    size_t tokens = 0;
    for (const Input& input : parts_.inputs) {
      if (inputs.size() > 1) inputs += ',';
      if (!input.tokens.empty()) {
        ++tokens;
        inputs += Ids(input.tokens);
      } else {
        inputs += '"';
        AppendJsonEscaped(inputs, input.text);
        inputs += '"';
      }
    }
    if (tokens > 0 && (tokens != parts_.inputs.size() || !(profile_.capabilities & kCapTokens)))
      Refuse("input");
    body_.Raw("input", inputs + ']');
    if (profile_.base64) body_.Text("encoding_format", "base64");
    if (parts_.dimensions > 0) body_.Integer("dimensions", parts_.dimensions);
  }

  void Rerank() {
    std::vector<std::string> documents;
    for (const Input& input : parts_.inputs) documents.push_back(input.text);
    body_.Text("query", parts_.prompt);
    body_.Raw("documents", Texts(documents));
  }

  void Tokenize() {
    const std::string_view special = parts_.no_special_tokens ? "false" : "true";
    switch (profile_.tokenize) {
      case TokenizeForm::kNone:
        return Refuse("");
      case TokenizeForm::kVllm:
        if (parts_.sampling.logprobs) Refuse("with_pieces");
        if (!parts_.messages_json.empty()) {
          body_.Raw("messages", parts_.messages_json);
          if (!parts_.tools_json.empty()) body_.Raw("tools", parts_.tools_json);
          if (!parts_.template_kwargs_json.empty())
            body_.Raw("chat_template_kwargs", parts_.template_kwargs_json);
        } else {
          body_.Text("prompt", parts_.prompt);
          body_.Raw("add_special_tokens", special);
        }
        return;
      case TokenizeForm::kLlamaServer:
        if (!parts_.messages_json.empty()) return Refuse("messages");
        body_.Text("content", parts_.prompt);
        body_.Raw("add_special", special);
        if (parts_.sampling.logprobs) body_.True("with_pieces");
    }
  }

  const Profile& profile_;
  const RequestFacts& facts_;
  const PayloadParts& parts_;
  Body body_;
  Status status_;
};

}  // namespace

Result<HttpCall> ToHttp(const Profile& profile, std::string_view model, const RequestFacts& facts,
                        const PayloadParts& parts) {
  if (!facts.resume.choices.empty())
    return Err(MakeStatus(Code::kFailedPrecondition,
                          "the model's server cannot go on with an answer of another", "cannot_resume"));
  return Mapper(profile, model, facts, parts).Map();
}

}  // namespace cyllm::upstream
