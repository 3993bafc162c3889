#include "upstream/process/launch.h"

#include <fmt/format.h>

#include <array>
#include <boost/json.hpp>
#include <charconv>

namespace cyllm::upstream {

namespace json = boost::json;

namespace {

enum class Type : uint8_t { kInteger, kFraction, kText, kSwitch };

struct Option {
  std::string_view name;
  Type type;
  std::string_view flag;      // of a switch: when true
  std::string_view off = {};  // of a switch: when false
  std::string_view variable = {};
};

struct Program {
  std::string_view profile;
  std::array<std::string_view, 4> command;  // up to the model
  std::string_view model;                   // the model's flag; empty: it stands alone
  std::string_view served;                  // the flag of its name; empty: it has none
  std::string_view socket;                  // the flag of a Unix socket; empty: TCP
  std::span<const Option> options;
};

constexpr auto kVllm = std::to_array<Option>({
    {"tensor_parallel_size", Type::kInteger, "--tensor-parallel-size", "", "VLLM_TENSOR_PARALLEL_SIZE"},
    {"gpu_memory_utilization", Type::kFraction, "--gpu-memory-utilization", "",
     "VLLM_GPU_MEMORY_UTILIZATION"},
    {"max_model_len", Type::kInteger, "--max-model-len", "", "VLLM_MAX_MODEL_LEN"},
    {"max_num_batched_tokens", Type::kInteger, "--max-num-batched-tokens", "", "VLLM_MAX_NUM_BATCHED_TOKENS"},
    {"max_num_seqs", Type::kInteger, "--max-num-seqs"},
    {"quantization", Type::kText, "--quantization"},
    {"kv_cache_dtype", Type::kText, "--kv-cache-dtype"},
    {"dtype", Type::kText, "--dtype"},
    {"enable_prefix_caching", Type::kSwitch, "--enable-prefix-caching", "--no-enable-prefix-caching"},
    {"trust_remote_code", Type::kSwitch, "--trust-remote-code"},
    {"enforce_eager", Type::kSwitch, "--enforce-eager"},
});
constexpr auto kSglang = std::to_array<Option>({
    {"tensor_parallel_size", Type::kInteger, "--tp-size"},
    {"gpu_memory_utilization", Type::kFraction, "--mem-fraction-static"},
    {"max_model_len", Type::kInteger, "--context-length"},
    {"max_num_seqs", Type::kInteger, "--max-running-requests"},
    {"quantization", Type::kText, "--quantization"},
    {"kv_cache_dtype", Type::kText, "--kv-cache-dtype"},
    {"enable_prefix_caching", Type::kSwitch, "", "--disable-radix-cache"},
    {"trust_remote_code", Type::kSwitch, "--trust-remote-code"},
});
constexpr auto kTrtllm = std::to_array<Option>({
    {"tensor_parallel_size", Type::kInteger, "--tp_size"},
    {"gpu_memory_utilization", Type::kFraction, "--kv_cache_free_gpu_memory_fraction"},
    {"max_model_len", Type::kInteger, "--max_seq_len"},
    {"max_batch_size", Type::kInteger, "--max_batch_size"},
    {"trust_remote_code", Type::kSwitch, "--trust_remote_code"},
});
constexpr auto kLlamaServer = std::to_array<Option>({
    {"max_model_len", Type::kInteger, "--ctx-size"},
    {"max_num_seqs", Type::kInteger, "--parallel"},
    {"kv_cache_dtype", Type::kText, "--cache-type-k"},
});
constexpr auto kPrograms = std::to_array<Program>({
    {"vllm", {"vllm", "serve"}, "", "--served-model-name", "--uds", kVllm},
    {"sglang", {"python3", "-m", "sglang.launch_server"}, "--model-path", "--served-model-name", "", kSglang},
    {"trtllm", {"trtllm-serve", "serve"}, "", "", "", kTrtllm},
    {"llama-server", {"llama-server"}, "--model", "--alias", "--host", kLlamaServer},
});

const Program* Find(const Profile& profile) {
  for (const Program& program : kPrograms) {
    if (program.profile == profile.name) return &program;
  }
  return nullptr;
}

// vLLM's further ones, which are more than a flag.
constexpr std::string_view kUse4Bit = "use_4bit", kToolParser = "tool_call_parser", kAdapter = "adapter_path",
                           kAdapters = "adapters";

Status Wrong(std::string_view option, std::string_view must) {
  return InvalidArgument(fmt::format("'{}' must be {}", option, must), std::string(option));
}

// A variable's text in the option's type.
json::value FromVariable(Type type, const std::string& text) {
  if (type == Type::kText) return json::value(text);
  if (type == Type::kSwitch) return text == "1" || text == "true" || text == "yes";
  json::error_code ec;
  json::value value = json::parse(text, ec);
  return ec ? json::value(text) : value;
}

Status Append(const Option& option, const json::value& value, std::vector<std::string>& out) {
  switch (option.type) {
    case Type::kInteger:
      if (!value.is_int64() || value.get_int64() < 1 || value.get_int64() > 1 << 30)
        return Wrong(option.name, "a whole number above 0");
      out.insert(out.end(), {std::string(option.flag), std::to_string(value.get_int64())});
      return Status::Ok();
    case Type::kFraction: {
      json::error_code ec;
      const double number = value.is_number() ? value.to_number<double>(ec) : 0;
      if (ec || !(number > 0 && number <= 1)) return Wrong(option.name, "a number above 0, at most 1");
      out.insert(out.end(), {std::string(option.flag), fmt::format("{}", number)});
      return Status::Ok();
    }
    case Type::kText:
      if (!value.is_string() || value.get_string().empty() || value.get_string().front() == '-')
        return Wrong(option.name, "a word");
      if (value.get_string() != "none" && value.get_string() != "auto")
        out.insert(out.end(), {std::string(option.flag), std::string(value.get_string())});
      return Status::Ok();
    case Type::kSwitch: {
      if (!value.is_bool()) return Wrong(option.name, "true or false");
      const std::string_view flag = value.get_bool() ? option.flag : option.off;
      if (!flag.empty()) out.emplace_back(flag);
      return Status::Ok();
    }
  }
  return Status::Ok();
}

Status TextList(std::string_view name, const json::value& value, std::vector<std::string>& out) {
  if (value.is_string() && name == "command") {
    out.emplace_back(value.get_string());
    return Status::Ok();
  }
  const json::array* list = value.if_array();
  if (!list) return Wrong(name, "a list of texts");
  for (const json::value& text : *list) {
    if (!text.is_string()) return Wrong(name, "a list of texts");
    out.emplace_back(text.get_string());
  }
  return Status::Ok();
}

Status AdapterOptions(const json::object& options, std::vector<std::string>& out) {
  std::vector<std::string> modules;
  if (const json::value* v = options.if_contains(kAdapter); v && !v->is_null()) {
    if (!v->is_string()) return Wrong(kAdapter, "a path");
    modules.push_back("adapter=" + std::string(v->get_string()));
  }
  if (const json::value* v = options.if_contains(kAdapters); v && !v->is_null()) {
    const json::object* named = v->if_object();
    if (!named) return Wrong(kAdapters, "an object: name -> path");
    for (const auto& [name, path] : *named) {
      if (name.empty() || !path.is_string()) return Wrong(kAdapters, "an object: name -> path");
      modules.push_back(std::string(name) + "=" + std::string(path.get_string()));
    }
  }
  if (modules.empty()) return Status::Ok();
  out.insert(out.end(), {"--enable-lora", "--lora-modules"});
  out.insert(out.end(), modules.begin(), modules.end());
  return Status::Ok();
}

Status VllmOptions(const json::object& options, const LaunchRequest& request, std::vector<std::string>& out) {
  // What the answer needs anyway; and so that SIGTERM ends it although streams are open.
  out.insert(out.end(), {"--enable-prompt-tokens-details", "--shutdown-timeout",
                         std::to_string(std::max<int64_t>(request.stop_grace.count() / 1000, 1))});
  if (const json::value* v = options.if_contains(kUse4Bit); v && !v->is_null()) {
    if (!v->is_bool()) return Wrong(kUse4Bit, "true or false");
    if (v->get_bool() && options.contains("quantization"))
      return InvalidArgument("'use_4bit' and 'quantization' exclude each other", std::string(kUse4Bit));
    if (v->get_bool()) out.insert(out.end(), {"--quantization", "bitsandbytes"});
  }
  if (const json::value* v = options.if_contains(kToolParser); v && !v->is_null()) {
    if (!v->is_string()) return Wrong(kToolParser, "a word");
    out.insert(out.end(), {"--enable-auto-tool-choice", "--tool-call-parser", std::string(v->get_string())});
  }
  return AdapterOptions(options, out);
}

}  // namespace

std::string ProgramOf(const Profile& profile) {
  const Program* program = Find(profile);
  return program ? std::string(program->command.front()) : std::string();
}

std::vector<std::string> LaunchOptions(const Profile& profile) {
  const Program* program = Find(profile);
  if (!program) return {};
  std::vector<std::string> names = {"command", "args", "env"};
  for (const Option& option : program->options) names.emplace_back(option.name);
  if (profile.name == "vllm")
    for (const std::string_view name : {kUse4Bit, kToolParser, kAdapter, kAdapters}) names.emplace_back(name);
  return names;
}

Result<Launch> MakeLaunch(const Profile& profile, const LaunchRequest& request,
                          const std::function<std::optional<std::string>(const std::string&)>& env) {
  const Program* program = Find(profile);
  if (!program)
    return Err(InvalidArgument(fmt::format("{} is not started by us: give its 'url'", profile.name)));
  if (request.model.empty())
    return Err(InvalidArgument("'model_path' is missing: what to serve", "model_path"));
  json::error_code ec;
  const json::value parsed = json::parse(request.options_json, ec);
  if (ec || !parsed.is_object()) return Err(InvalidArgument("the options are no JSON object"));
  const json::object& options = parsed.get_object();
  Launch launch;
  std::vector<std::string>& command = launch.child.command;
  if (const json::value* own = options.if_contains("command")) {
    if (Status s = TextList("command", *own, command); !s.ok()) return Err(s);
    if (command.empty()) return Err(Wrong("command", "a program"));
    if (command.size() == 1)  // the program alone: what follows it is ours
      for (size_t i = 1; i < program->command.size() && !program->command[i].empty(); ++i)
        command.emplace_back(program->command[i]);
  } else {
    for (const std::string_view word : program->command)
      if (!word.empty()) command.emplace_back(word);
  }
  if (!program->model.empty()) command.emplace_back(program->model);
  command.push_back(request.model);
  if (!program->served.empty()) command.insert(command.end(), {std::string(program->served), request.served});
  if (!program->socket.empty()) {
    command.insert(command.end(), {std::string(program->socket), request.socket});
    launch.socket = request.socket;
    launch.url = "unix:" + request.socket;
  } else {
    command.insert(command.end(), {"--host", "127.0.0.1", "--port", std::to_string(request.port)});
    launch.url = "http://127.0.0.1:" + std::to_string(request.port);
  }
  for (const Option& option : program->options) {
    const json::value* value = options.if_contains(option.name);
    json::value variable;
    if ((!value || value->is_null()) && !option.variable.empty()) {
      if (const auto text = env(std::string(option.variable)); text && !text->empty()) {
        variable = FromVariable(option.type, *text);
        value = &variable;
      }
    }
    if (!value || value->is_null()) continue;
    if (Status s = Append(option, *value, command); !s.ok()) return Err(s);
  }
  if (profile.name == "vllm")
    if (Status s = VllmOptions(options, request, command); !s.ok()) return Err(s);
  if (profile.name == "sglang") command.emplace_back("--enable-metrics");
  if (profile.name == "llama-server") command.emplace_back("--metrics");
  if (const json::value* args = options.if_contains("args"))
    if (Status s = TextList("args", *args, command); !s.ok()) return Err(s);
  if (const json::value* variables = options.if_contains("env")) {
    if (!variables->is_object()) return Err(Wrong("env", "an object of texts"));
    for (const auto& [name, text] : variables->get_object()) {
      if (!text.is_string() || name.empty() || name.find('=') != name.npos)
        return Err(Wrong("env", "an object of texts"));
      launch.child.env[std::string(name)] = std::string(text.get_string());
    }
  }
  return launch;
}

}  // namespace cyllm::upstream
