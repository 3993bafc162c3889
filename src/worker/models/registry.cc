#include "worker/models/registry.h"

#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace cyllm {

namespace json = boost::json;

namespace {

constexpr std::string_view kOwnKeys[] = {"model_path",    "source",     "engine",
                                         "idle_unload_s", "memory_mib", "isolation"};

// The contract's other keys: taken by engines that know them, else warned about.
constexpr std::string_view kContractKeys[] = {
    "adapter_path",
    "quantization",
    "use_4bit",
    "max_model_len",
    "tensor_parallel_size",
    "enable_prefix_caching",
    "kv_cache_dtype",
    "gpu_memory_utilization",
    "enable_prompt_cache",
    "prompt_cache_ttl",
    "allow_auto_tuning",
    "load_mode",
    "interactive_quantization",
    "model_source",
    "skip_validation",
    "use_safetensors",
    "max_batch_size",
    "max_input_len",
    "max_output_len",
    "backends",
    "defaults",
};

template <class Range>
bool Has(const Range& range, std::string_view value) {
  return std::find(std::begin(range), std::end(range), value) != std::end(range);
}

template <class Range>
std::string Join(const Range& names) {
  std::string out;
  for (const auto& name : names) {
    if (!out.empty()) out += ", ";
    out += name;
  }
  return out;
}

class Parser {
 public:
  Parser(std::string where, const RegistryOptions& options, std::span<const EngineFacts> engines)
      : where_(std::move(where)), options_(options), engines_(engines) {}

  Result<Registry> Parse(const std::string& text) {
    json::error_code ec;
    json::value root = json::parse(text, ec);
    if (ec) return Wrong("is no JSON: " + ec.message());
    const json::object* models = root.if_object();
    if (models && models->contains("models")) models = models->at("models").if_object();
    if (!models) return Wrong("must be an object: model id -> entry");
    Registry registry;
    for (const auto& [id, value] : *models) {
      const json::object* entry = value.if_object();
      if (id.empty() || !entry)
        return Wrong("entry '" + std::string(id) + "' must have an id and be an object");
      Result<ModelEntry> model = ParseEntry(std::string(id), *entry, registry.warnings);
      if (!model) return Err(model.error());
      registry.models.push_back(std::move(*model));
    }
    if (registry.models.empty()) return Wrong("names no model");
    if (!options_.default_model.empty()) {
      if (!registry.Find(options_.default_model)) {
        std::vector<std::string> ids;
        for (const ModelEntry& m : registry.models) ids.push_back(m.id);
        return Err(InvalidArgument("the default model '" + options_.default_model + "' is not in " + where_ +
                                   "; it has: " + Join(ids)));
      }
      registry.default_id = options_.default_model;
    } else {
      registry.default_id = registry.Find("default") ? "default" : registry.models.front().id;
    }
    return registry;
  }

  Result<std::string> Engine(std::string name, const std::string& of) const {
    name = name.substr(0, name.find_last_not_of(" \t") + 1);
    name.erase(0, std::min(name.find_first_not_of(" \t"), name.size()));
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    if (name == "llama.cpp" || name == "llama-cpp") name = "llama_cpp";
    if (Facts(name)) return name;
    std::vector<std::string> names;
    for (const EngineFacts& e : engines_) names.push_back(e.name);
    return Err(InvalidArgument(of + ": engine '" + name + "' is unknown; here are: " +
                               (names.empty() ? "none (is the folder of the plugins right?)" : Join(names))));
  }

  const EngineFacts* Facts(std::string_view name) const {
    const auto it =
        std::find_if(engines_.begin(), engines_.end(), [&](const auto& e) { return e.name == name; });
    return it == engines_.end() ? nullptr : &*it;
  }

 private:
  std::unexpected<Status> Wrong(const std::string& what) const {
    return Err(InvalidArgument(where_ + " " + what));
  }

  Result<ModelEntry> ParseEntry(const std::string& id, const json::object& entry,
                                std::vector<std::string>& warnings) const {
    const std::string of = where_ + ", model '" + id + "'";
    ModelEntry model;
    model.id = id;
    std::string engine = options_.default_engine.empty() ? "llama_cpp" : options_.default_engine;
    for (const char* key : {"engine", "model_path", "source"}) {
      const json::value* v = entry.if_contains(key);
      if (!v || v->is_null()) continue;
      if (!v->is_string()) return Err(InvalidArgument(of + ": '" + key + "' must be a text"));
      (std::string_view(key) == "engine" ? engine : model.source) = std::string(v->get_string());
    }
    const Result<std::string> name = Engine(engine, of);
    if (!name) return Err(name.error());
    model.engine = *name;
    const EngineFacts& facts = *Facts(*name);
    if (const json::value* isolation = entry.if_contains("isolation"); isolation && !isolation->is_null()) {
      const json::value none = "none", process = "process";
      if (facts.is_server || (*isolation != none && *isolation != process))
        return Err(InvalidArgument(of + (facts.is_server
                                             ? ": 'isolation' is for plugins; a server is a process anyway"
                                             : ": 'isolation' must be \"none\" or \"process\"")));
      model.isolated = *isolation == process;
    }
    json::object options;
    for (const auto& [key, value] : entry) {
      if (Has(kOwnKeys, key)) continue;
      if (Has(facts.options, key)) {
        options[key] = value;
      } else if (Has(kContractKeys, key)) {
        warnings.push_back(of + ": '" + std::string(key) + "' has no meaning for engine " + *name +
                           ", ignored");
      } else {
        return Err(InvalidArgument(of + ": unknown key '" + std::string(key) + "'; known for engine " +
                                   *name + ": " + Join(kOwnKeys) + (facts.options.empty() ? "" : ", ") +
                                   Join(facts.options)));
      }
    }
    Result<std::vector<std::string>> adapters = Adapters(of, options);
    if (!adapters) return Err(adapters.error());
    model.adapters = std::move(*adapters);
    model.options_json = json::serialize(options);
    double idle = 0, memory = 0;
    for (const auto& [key, out] : {std::pair{"idle_unload_s", &idle}, {"memory_mib", &memory}}) {
      const json::value* v = entry.if_contains(key);
      if (!v || v->is_null()) continue;
      json::error_code not_a_number;
      *out = v->to_number<double>(not_a_number);
      if (not_a_number || !(*out >= 0 && *out <= 1e9))
        return Err(InvalidArgument(of + ": '" + key + "' must be a number, 0 or more"));
      if (facts.is_server)
        warnings.push_back(of + ": '" + key + "' has no meaning for engine " + *name + ", ignored");
    }
    model.idle_unload = Millis(static_cast<int64_t>(idle * 1e3));
    model.memory_bytes = static_cast<uint64_t>(memory * (1 << 20));
    if (facts.is_server) {
      // Its own affair.
    } else if (!facts.needs_model_file) {
      model.source.clear();
    } else if (model.source.empty()) {
      return Err(InvalidArgument(of + ": 'model_path' (or 'source') is missing"));
    } else if (model.source == "/path/to/model") {
      return Err(InvalidArgument(of + ": 'model_path' is still the placeholder /path/to/model"));
    }
    return model;
  }

  // One that has no name is called `adapter`.
  Result<std::vector<std::string>> Adapters(const std::string& of, const json::object& options) const {
    std::vector<std::string> names;
    if (const json::value* one = options.if_contains("adapter_path"); one && !one->is_null()) {
      if (!one->is_string()) return Err(InvalidArgument(of + ": 'adapter_path' must be a text"));
      if (!one->get_string().empty()) names.emplace_back("adapter");
    }
    if (const json::value* several = options.if_contains("adapters"); several && !several->is_null()) {
      const json::object* list = several->if_object();
      if (!list) return Err(InvalidArgument(of + ": 'adapters' must be an object: name -> path"));
      for (const auto& [name, path] : *list) {
        if (name.empty() || !path.is_string() || path.get_string().empty() || Has(names, name))
          return Err(
              InvalidArgument(of + ": 'adapters' must give each adapter a name of its own and a path"));
        names.emplace_back(name);
      }
    }
    std::ranges::sort(names);
    return names;
  }

  const std::string where_;
  const RegistryOptions& options_;
  const std::span<const EngineFacts> engines_;
};

// "hf:a/b/Model-Q4.gguf", "https://x/Model-Q4.gguf?download=1" and "/m/Model-Q4.gguf" are served as
// "Model-Q4".
std::string IdOf(std::string source) {
  source = source.substr(0, source.find_first_of("?#"));
  source = source.substr(source.find_last_of("/:") + 1);
  if (source.ends_with(".gguf")) source.resize(source.size() - 5);
  return source.empty() ? "default" : source;
}

Result<Registry> OneModel(const RegistryOptions& options, const Parser& parser) {
  const Result<std::string> engine =
      parser.Engine(options.default_engine.empty() ? "llama_cpp" : options.default_engine, "engine");
  if (!engine) return Err(engine.error());
  const EngineFacts& facts = *parser.Facts(*engine);
  ModelEntry model;
  model.engine = *engine;
  model.options_json = "{}";
  if (options.default_model.empty() || options.default_model == facts.default_source) {
    model.id = facts.default_model.empty() ? "default" : facts.default_model;
    model.source = facts.default_source;
    if (facts.needs_model_file && model.source.empty())
      return Err(InvalidArgument("engine '" + *engine + "' has no model of its own: name one with --model"));
  } else {
    model.id = IdOf(options.default_model);
    if (facts.needs_model_file || facts.is_server) model.source = options.default_model;
  }
  Registry registry;
  registry.default_id = model.id;
  registry.models.push_back(std::move(model));
  return registry;
}

}  // namespace

const ModelEntry* Registry::Find(const std::string& id) const {
  const auto by = [&](const std::string& name) -> const ModelEntry* {
    const auto it =
        std::find_if(models.begin(), models.end(), [&](const ModelEntry& m) { return m.id == name; });
    return it == models.end() ? nullptr : &*it;
  };
  if (const ModelEntry* model = by(id)) return model;
  return id == "default" && !default_id.empty() ? by(default_id) : nullptr;
}

Result<Registry> ReadRegistry(const RegistryOptions& options, std::span<const EngineFacts> engines) {
  if (!options.text.empty()) return Parser("CY_LLM_MODEL_REGISTRY", options, engines).Parse(options.text);
  Parser parser(options.path, options, engines);
  if (options.path.empty()) return OneModel(options, parser);
  std::ifstream file(options.path);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) return Err(InvalidArgument("model registry " + options.path + " cannot be read"));
  return parser.Parse(text.str());
}

uint64_t ExpectedBytes(const ModelEntry& entry) {
  if (entry.memory_bytes > 0) return entry.memory_bytes;
  std::error_code none;
  const uintmax_t size = std::filesystem::file_size(entry.source, none);
  return none ? 0 : size;
}

}  // namespace cyllm
