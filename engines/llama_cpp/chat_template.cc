#include "llama_cpp/chat_template.h"

#include <chat.h>
#include <json-schema-to-grammar.h>
#include <log.h>

#include <algorithm>
#include <exception>
#include <functional>
#include <list>
#include <mutex>

#include "llama_cpp/large_thread.h"
#include "llama_cpp/own_tools.h"
#include "llama_cpp/response_format.h"
#include "llama_cpp/schema_grammar.h"

namespace cyllm::llama {

namespace {

// What llama.cpp's parser may recurse into, at most: it opens a level for each.
size_t Brackets(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return c == '[' || c == '{'; }));
}

// So many fit on any thread's stack, so many on a LargeThread's.
constexpr size_t kFewBrackets = 400, kMaxBrackets = 10'000;

// Runs `f`, which throws nothing, on a thread with room for kMaxBrackets levels; false: there is none.
bool OnLargeStack(std::function<void()> f) {
  LargeThread thread(std::move(f), false);
  return thread.runs();
}

// The text read again from its beginning by llama.cpp's parser for the template, whenever it has grown by a
// 32nd: what that costs in all is linear in the text, times 32.
class TemplateParser final : public MessageParser {
 public:
  explicit TemplateParser(std::shared_ptr<const common_chat_parser_params> params)
      : params_(std::move(params)), brackets_(Brackets(params_->generation_prompt)) {}

  void Push(std::string_view text, std::vector<MessagePart>* out) override {
    text_ += text;
    brackets_ += Brackets(text);
    if (text_.size() - read_ <= text_.size() / 32) return;
    Read(true, out);
  }
  void Finish(std::vector<MessagePart>* out) override { Read(false, out); }

 private:
  void Read(bool partial, std::vector<MessagePart>* out) {
    common_chat_msg now;
    if (brackets_ <= kFewBrackets) {
      Parse(partial, &now);
    } else if (brackets_ > kMaxBrackets || !OnLargeStack([&] { Parse(partial, &now); })) {
      // No message that anybody means: the rest as it is.
      if (read_ < text_.size()) out->push_back({MessagePart::Kind::kText, text_.substr(read_), 0, false, {}});
      read_ = text_.size();
      return;
    }
    read_ = text_.size();
    Tell(MessagePart::Kind::kReasoning, now.reasoning_content, &told_.reasoning_content, 0, out);
    Tell(MessagePart::Kind::kText, now.content, &told_.content, 0, out);
    for (size_t i = 0; i < now.tool_calls.size(); ++i) {
      const common_chat_tool_call& call = now.tool_calls[i];
      const bool sure = !partial || !call.arguments.empty() || i + 1 < now.tool_calls.size();
      if (call.name.empty() || !sure) continue;  // a name may still grow
      if (i >= told_.tool_calls.size()) {
        told_.tool_calls.resize(i + 1);
        out->push_back({MessagePart::Kind::kToolCall, {}, static_cast<uint32_t>(i), true, call.name});
      }
      Tell(MessagePart::Kind::kToolCall, call.arguments, &told_.tool_calls[i].arguments,
           static_cast<uint32_t>(i), out);
    }
  }

  // Nothing of the text when it cannot be read yet.
  void Parse(bool partial, common_chat_msg* out) const {
    common_chat_msg& now = *out;
    try {
      now = common_chat_parse(text_, partial, *params_);
    } catch (const std::exception&) {
      if (partial) return;
      try {  // cut off, or not what the template expects: what can be read of it
        now = common_chat_parse(text_, true, *params_);
      } catch (const std::exception&) {
        if (told_.content.empty() && told_.tool_calls.empty()) now.content = text_;
      }
    }
  }

  // What `now` has more than was told; nothing when it is read differently now.
  static void Tell(MessagePart::Kind kind, const std::string& now, std::string* told, uint32_t call,
                   std::vector<MessagePart>* out) {
    if (now.size() <= told->size() || !now.starts_with(*told)) return;
    out->push_back({kind, now.substr(told->size()), call, false, {}});
    *told = now;
  }

  const std::shared_ptr<const common_chat_parser_params> params_;
  std::string text_;
  size_t read_ = 0;  // of it, at the last look
  size_t brackets_;  // of it and of what the answer begins with
  common_chat_msg told_;
};

class JinjaTemplate final : public ChatTemplate {
 public:
  explicit JinjaTemplate(common_chat_templates_ptr templates) : templates_(std::move(templates)) {
    const auto caps = common_chat_templates_get_caps(templates_.get());
    tools_ = caps.at("supports_tools") && caps.at("supports_tool_calls");
    LearnThinking();
  }

  bool Render(const ChatInput& in, ChatPrompt* out, ChatError* error) const override {
    std::lock_guard lock(mutex_);
    try {
      return RenderAsGiven(in, out, error);
    } catch (const std::exception& e) {
      error->message = std::string("messages: the model's chat template does not take them: ") + e.what();
    }
    // Some templates know a system message at the front only, or want the roles to alternate.
    std::optional<std::string> messages = InStrictOrder(in.messages);
    if (!messages) return Wrong("messages", error);
    try {
      ChatInput moved = in;
      moved.messages = std::move(*messages);
      *out = {};
      return RenderAsGiven(moved, out, error);
    } catch (const std::exception&) {
      return Wrong("messages", error);  // with what was wrong at first
    }
  }

  bool Hold(const std::string& response_format, const std::string& extra,
            std::shared_ptr<const ConstraintSpec>* out, ChatError* error) const override {
    Format format;
    if (!ReadFormat(response_format, extra, &format, &error->message)) return Wrong(format.param, error);
    if (format.gbnf.empty()) return true;
    std::lock_guard lock(mutex_);
    auto spec = std::make_shared<ConstraintSpec>();
    *out = spec;
    return CompileInto(format.gbnf, format.param, spec.get(), error);
  }

  std::string source() const override { return common_chat_templates_source(templates_.get()); }

 private:
  struct Calls {
    bool forced;    // there has to be one
    bool parallel;  // there may be several
  };

  bool RenderAsGiven(const ChatInput& in, ChatPrompt* out, ChatError* error) const {
    std::vector<Tool> tools;
    ToolChoice choice;
    Format format;
    if (!ReadTools(in.tools, &tools, &error->message)) return Wrong("tools", error);
    if (!ReadToolChoice(in.tool_choice, &choice, &error->message)) return Wrong("tool_choice", error);
    if (!ReadFormat(in.response_format, in.extra, &format, &error->message))
      return Wrong(format.param, error);
    if (choice.kind == ToolChoice::Kind::kNone) tools.clear();
    if (choice.kind == ToolChoice::Kind::kNamed) {
      std::erase_if(tools, [&](const Tool& tool) { return tool.name != choice.name; });
      if (tools.empty()) {
        error->message = "tool_choice names no function of tools";
        return Wrong("tool_choice", error);
      }
    }
    const bool forced = choice.kind == ToolChoice::Kind::kRequired || choice.kind == ToolChoice::Kind::kNamed;
    if (forced && tools.empty()) {
      error->message = "tool_choice asks for a call, and there are no tools";
      return Wrong("tool_choice", error);
    }
    if (forced && !format.gbnf.empty() && std::string_view(format.param) != "response_format") {
      error->message = format.param + std::string(": cannot be used together with a forced tool_choice");
      return Wrong(format.param, error);
    }
    // Who names a function wants it called once.
    const Calls wanted{forced, in.parallel_tool_calls && choice.kind != ToolChoice::Kind::kNamed};
    if (tools_ && !tools.empty() && format.gbnf.empty()) return RenderNative(in, tools, wanted, out, error);
    return RenderOwn(in, tools, wanted, format, out, error);
  }

  static bool Wrong(const char* param, ChatError* error) {
    error->param = param;
    return false;
  }

  // The tags between which the model thinks, if it does.
  void LearnThinking() try {
    common_chat_templates_inputs inputs;
    common_chat_msg hello;
    hello.role = "user";
    hello.content = "hello";
    inputs.messages = {hello};
    inputs.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
    const common_chat_params params = common_chat_templates_apply(templates_.get(), inputs);
    if (!params.supports_thinking || params.thinking_end_tags.empty()) return;
    think_start_ = params.thinking_start_tag;
    think_ends_ = params.thinking_end_tags;
  } catch (const std::exception&) {  // a template that llama.cpp cannot analyse still makes prompts
  }

  static common_chat_templates_inputs Inputs(const std::string& messages, const ChatInput& in) {
    common_chat_templates_inputs inputs;
    inputs.messages = common_chat_msgs_parse_oaicompat(common_json::parse(messages));
    if (inputs.messages.empty()) throw std::invalid_argument("at least one message is needed");
    for (const common_chat_msg& message : inputs.messages) {
      for (const common_chat_tool_call& call : message.tool_calls)
        if (IsDeepJson(call.arguments))
          throw std::invalid_argument("arguments of a tool call are nested too deeply");
      if (message.role == "tool" && IsDeepJson(message.render_content()))
        throw std::invalid_argument("the result of a tool call is nested too deeply");
    }
    if (!in.kwargs.empty()) {
      const common_json kwargs = common_json::parse(in.kwargs);
      for (const auto& [key, value] : kwargs.items()) {
        inputs.chat_template_kwargs[key] = value.dump();
        if (key == "enable_thinking" && value.is_boolean()) inputs.enable_thinking = value.get<bool>();
      }
    }
    return inputs;
  }

  static bool BeginsWithWords(const std::vector<common_grammar_trigger>& triggers) {
    return !triggers.empty() && std::all_of(triggers.begin(), triggers.end(), [](const auto& trigger) {
      return trigger.type == COMMON_GRAMMAR_TRIGGER_TYPE_WORD;
    });
  }

  static bool Continues(const common_chat_msg& last) {
    return last.role == "assistant" && last.tool_calls.empty() && !last.render_content().empty();
  }

  // By the template's own description and form of calls.
  bool RenderNative(const ChatInput& in, const std::vector<Tool>& tools, Calls wanted, ChatPrompt* out,
                    ChatError* error) const {
    common_chat_templates_inputs inputs = Inputs(in.messages, in);
    for (const Tool& tool : tools) {
      std::string why;
      std::optional<std::string> parameters =
          BoundedSchema(tool.parameters.empty() ? "{}" : tool.parameters, &why);
      if (!parameters) {
        error->message = "tools: the parameters of '" + tool.name + "' cannot be held to: " + why;
        return Wrong("tools", error);
      }
      inputs.tools.push_back({tool.name, tool.description, std::move(*parameters)});
    }
    inputs.tool_choice = COMMON_CHAT_TOOL_CHOICE_AUTO;
    inputs.parallel_tool_calls = wanted.parallel;
    inputs.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
    if (Continues(inputs.messages.back())) inputs.continue_final_message = COMMON_CHAT_CONTINUATION_AUTO;
    common_chat_params params = common_chat_templates_apply(templates_.get(), inputs);
    // A forced answer begins with the call, where that is what a trigger word begins. (llama.cpp's own
    // grammar for it lets the model talk before.)
    const bool at_once = wanted.forced && params.grammar_lazy && BeginsWithWords(params.grammar_triggers);
    if (wanted.forced && !at_once) {
      inputs.tool_choice = COMMON_CHAT_TOOL_CHOICE_REQUIRED;
      params = common_chat_templates_apply(templates_.get(), inputs);
    }
    if (params.grammar.empty())  // llama.cpp does not see how the template writes calls
      return RenderOwn(in, tools, wanted, {}, out, error);
    out->text = params.prompt;
    out->special = params.preserved_tokens;
    out->stops = params.additional_stops;
    auto read = std::make_shared<common_chat_parser_params>(params);
    read->reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
    if (!params.parser.empty()) read->parser.load(params.parser);
    out->parser = [read = std::shared_ptr<const common_chat_parser_params>(read)] {
      return std::make_unique<TemplateParser>(read);
    };
    auto spec = std::make_shared<ConstraintSpec>();
    spec->lazy = params.grammar_lazy && !at_once;
    // Some of llama.cpp's grammars let more calls through all the same, or none.
    if (wanted.forced) spec->texts = GrammarMatcher::Texts::kNotBlank;
    if (!wanted.parallel && (wanted.forced || spec->lazy)) spec->texts = GrammarMatcher::Texts::kFirst;
    if (!spec->lazy && !at_once) spec->prefix = params.generation_prompt;
    for (const common_grammar_trigger& trigger : params.grammar_triggers) {
      if (trigger.type == COMMON_GRAMMAR_TRIGGER_TYPE_WORD) {
        spec->trigger_words.push_back(trigger.value);
      } else if (trigger.type != COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN) {
        spec->trigger_patterns.emplace_back(trigger.value);
      }
    }
    if (spec->lazy || at_once) LetThink(out->text, spec.get());
    out->constraint = spec;
    return CompileInto(params.grammar, "tools", spec.get(), error);
  }

  // Content in the template's form; calls, if there are tools, in ours.
  bool RenderOwn(const ChatInput& in, const std::vector<Tool>& tools, Calls wanted, const Format& format,
                 ChatPrompt* out, ChatError* error) const {
    const bool calls = !tools.empty() || in.messages.find("\"tool") != std::string::npos;
    common_chat_templates_inputs inputs =
        Inputs(calls && !(tools_ && tools.empty()) ? DescribeInMessages(in.messages, tools, wanted.forced)
                                                   : in.messages,
               in);
    inputs.force_pure_content = true;  // the prompt only: no analysis of the template for an output parser
    std::string begun;
    if (Continues(inputs.messages.back())) {
      begun = inputs.messages.back().render_content();
      inputs.messages.pop_back();
    }
    out->text = common_chat_templates_apply(templates_.get(), inputs).prompt;
    auto spec = std::make_shared<ConstraintSpec>();
    LetThink(out->text, spec.get());
    if (!begun.empty() || wanted.forced) NoThoughts(out, spec.get());
    out->text += begun;
    std::string grammar = format.gbnf;
    if (!tools.empty()) {
      const std::optional<std::string> call = CallGrammar(tools, wanted.parallel, &error->message);
      if (!call) return Wrong("tools", error);
      if (wanted.forced) {
        grammar = *call;
        spec->prefix = CallPrefix(tools);
        out->text += spec->prefix;
      } else if (format.gbnf.empty()) {
        grammar = *call;
        spec->lazy = true;
        spec->trigger_words = {std::string(kToolCallOpen)};
      } else {
        grammar = "root ::= c-root | f-root\n" + WithPrefix(*call, "c-") + WithPrefix(format.gbnf, "f-");
      }
    }
    out->parser = Parser(!tools.empty(), *spec);
    if (grammar.empty()) return true;
    out->constraint = spec;
    return CompileInto(grammar, tools.empty() ? format.param : "tools", spec.get(), error);
  }

  MakeParser Parser(bool tools, const ConstraintSpec& spec) const {
    if (!tools && spec.think_ends.empty()) return nullptr;
    return [=, start = spec.think_start, ends = spec.think_ends, thinking = spec.thinking,
            prefix = spec.prefix] {
      std::unique_ptr<MessageParser> inner = tools ? ToolCallText(prefix) : PlainContent();
      return ends.empty() ? std::move(inner) : SplitReasoning(start, ends, thinking, std::move(inner));
    };
  }

  // Whether the answer to `prompt` may begin with thoughts.
  void LetThink(std::string_view prompt, ConstraintSpec* spec) const {
    while (!prompt.empty() && (prompt.back() == '\n' || prompt.back() == ' ')) prompt.remove_suffix(1);
    for (const std::string& end : think_ends_)
      if (prompt.ends_with(end)) return;  // told not to
    spec->think_start = think_start_;
    spec->think_ends = think_ends_;
    spec->thinking = !think_ends_.empty() && (think_start_.empty() || prompt.ends_with(think_start_));
  }

  // The answer is begun past its thoughts.
  static void NoThoughts(ChatPrompt* out, ConstraintSpec* spec) {
    if (spec->thinking) out->text += spec->think_ends.front() + "\n\n";
    spec->think_start.clear();
    spec->think_ends.clear();
    spec->thinking = false;
  }

  bool CompileInto(const std::string& gbnf, const char* param, ConstraintSpec* spec, ChatError* error) const {
    for (auto it = compiled_.begin(); it != compiled_.end(); ++it) {
      if (it->first != gbnf) continue;
      compiled_.splice(compiled_.begin(), compiled_, it);
      spec->grammar = it->second;
      return true;
    }
    std::string why;
    spec->grammar = Grammar::Compile(gbnf, &why);
    if (!spec->grammar) {
      error->message = std::string(param) + ": the grammar cannot be used: " + why;
      return Wrong(param, error);
    }
    compiled_.emplace_front(gbnf, spec->grammar);
    if (compiled_.size() > kCompiled) compiled_.pop_back();
    return true;
  }

  static constexpr size_t kCompiled = 16;

  mutable std::mutex mutex_;  // the templates' interpreter is not made for two threads
  const common_chat_templates_ptr templates_;
  bool tools_ = false;  // the template describes tools and writes calls
  std::string think_start_;
  std::vector<std::string> think_ends_;
  mutable std::list<std::pair<std::string, std::shared_ptr<const Grammar>>> compiled_;  // last used first
};

}  // namespace

std::optional<std::string> SchemaGrammar(std::string_view schema_json, std::string* error) try {
  const std::optional<std::string> schema = BoundedSchema(schema_json, error);
  if (!schema) return std::nullopt;
  return json_schema_to_grammar(common_json::parse(*schema), true);
} catch (const std::exception& e) {
  *error = e.what();
  return std::nullopt;
}

std::string ObjectGrammar() {
  return json_schema_to_grammar(common_json::parse(R"({"type":"object"})"), true);
}

std::unique_ptr<ChatTemplate> LoadChatTemplate(const llama_model* model, const std::string& override_source,
                                               std::string* error) try {
  common_log_set_verbosity_thold(-1);  // it writes to standard output
  common_chat_templates_ptr templates = common_chat_templates_init(model, override_source);
  return std::make_unique<JinjaTemplate>(std::move(templates));
} catch (const std::exception& e) {
  *error = std::string("the chat template is not valid: ") + e.what();
  return nullptr;
}

}  // namespace cyllm::llama
