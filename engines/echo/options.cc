#include "echo/options.h"

#include <boost/json.hpp>

namespace cyllm::echo {

namespace json = boost::json;

namespace {

// Reads one key; false (with `error`) when its value is not what is allowed.
class Reader {
 public:
  Reader(const json::object& model, std::string* error) : model_(model), error_(error) {}

  bool Read(const char* key, double* out) {
    const json::value* v = model_.if_contains(key);
    if (!v) return true;
    json::error_code ec;
    const double number = v->is_number() ? v->to_number<double>(ec) : -1;
    if (ec || number < 0 || number > 86'400'000) return Wrong(key, "a number of milliseconds, 0 or more");
    *out = number;
    return true;
  }
  bool Read(const char* key, std::optional<uint32_t>* out) {
    const json::value* v = model_.if_contains(key);
    if (!v || v->is_null()) return true;
    json::error_code ec;
    const auto number = v->is_int64() || v->is_uint64() ? v->to_number<uint32_t>(ec) : 0;
    if (ec || !(v->is_int64() || v->is_uint64())) return Wrong(key, "a number of tokens, 0 or more");
    *out = number;
    return true;
  }
  bool Read(const char* key, bool* out) {
    const json::value* v = model_.if_contains(key);
    if (!v) return true;
    if (!v->is_bool()) return Wrong(key, "true or false");
    *out = v->get_bool();
    return true;
  }
  bool ReadStamp(bool* out) {
    const json::value* v = model_.if_contains("stamp");
    if (!v) return true;
    if (!v->is_string() || v->get_string() != "monotonic") return Wrong("stamp", "\"monotonic\"");
    *out = true;
    return true;
  }

 private:
  bool Wrong(const char* key, const char* allowed) {
    *error_ = std::string("echo: '") + key + "' must be " + allowed;
    return false;
  }
  const json::object& model_;
  std::string* error_;
};

}  // namespace

std::optional<Options> ParseOptions(std::string_view config_json, std::string* error) {
  json::error_code ec;
  const json::value config = json::parse(config_json, ec);
  if (ec || !config.is_object()) {
    *error = "echo: the configuration is no JSON object";
    return std::nullopt;
  }
  const json::value* model = config.get_object().if_contains("model");
  if (!model) return Options{};
  if (!model->is_object()) {
    *error = "echo: 'model' must be an object";
    return std::nullopt;
  }
  Options options;
  Reader reader(model->get_object(), error);
  const bool ok =
      reader.Read("ttft_ms", &options.ttft_ms) && reader.Read("itl_ms", &options.itl_ms) &&
      reader.Read("load_ms", &options.load_ms) && reader.Read("reply_tokens", &options.reply_tokens) &&
      reader.Read("fail_after", &options.fail_after) && reader.Read("hang_after", &options.hang_after) &&
      reader.Read("crash_after", &options.crash_after) && reader.Read("max_running", &options.max_running) &&
      reader.Read("refuse", &options.refuse) && reader.Read("load_fails", &options.load_fails) &&
      reader.ReadStamp(&options.stamp);
  if (!ok) return std::nullopt;
  return options;
}

}  // namespace cyllm::echo
