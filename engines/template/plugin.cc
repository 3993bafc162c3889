// The engine behind the C ABI: no exception leaves, every struct is read and written by its size.
#include <cyllm/json.hpp>
#include <exception>
#include <optional>

#include "shout.h"

namespace shout {
namespace {

namespace sdk = cyllm::sdk;
using sdk::Json;

Engine* Of(cyllm_engine* engine) { return reinterpret_cast<Engine*>(engine); }

// Nothing (with `why`) where the configuration is wrong: a model that cannot be served as told is not loaded.
std::optional<Options> ParseOptions(cyllm_str config, std::string* why) {
  const std::optional<Json> root = sdk::JsonReader::Read(sdk::View(config));
  const Json* model = root && root->is(Json::Type::kObject) ? root->Find("model") : nullptr;
  if (!model || !model->is(Json::Type::kObject)) {
    *why = "shout: the configuration is no JSON object with a model";
    return std::nullopt;
  }
  Options options;
  if (const Json* waiting = model->Find("max_waiting")) {
    if (!waiting->is(Json::Type::kNumber) || waiting->number < 1 || waiting->number > 1'000'000) {
      *why = "shout: 'max_waiting' must be from 1 to 1000000";
      return std::nullopt;
    }
    options.max_waiting = static_cast<uint32_t>(waiting->number);
  }
  return options;
}

cyllm_engine* Create(cyllm_str config, const cyllm_callbacks* callbacks, cyllm_progress_fn progress,
                     void* ctx, cyllm_error* error) {
  try {
    std::string why;
    const std::optional<Options> options = ParseOptions(config, &why);
    if (!options) {
      sdk::Fail(error, CYLLM_INVALID_ARGUMENT, why, "invalid_value");
      return nullptr;
    }
    // A real engine loads here, and asks between its parts whether to go on.
    if (progress && progress(ctx, 0.5, sdk::Str("learning to shout"))) {
      sdk::Fail(error, CYLLM_CANCELLED, "loading was stopped");
      return nullptr;
    }
    return reinterpret_cast<cyllm_engine*>(new Engine(*options, sdk::Read(callbacks)));
  } catch (const std::exception& e) {
    sdk::Fail(error, CYLLM_INTERNAL, e.what());
    return nullptr;
  }
}

void Describe(cyllm_engine*, cyllm_description* out) {
  cyllm_description d{};
  d.capabilities = CYLLM_CAP_CHAT | CYLLM_CAP_TEXT;
  sdk::Copy("shout-1", d.digest);
  sdk::Write(d, out);
}

int32_t Submit(cyllm_engine* engine, const cyllm_request* request, cyllm_error* error) {
  try {
    return Of(engine)->Submit(sdk::Read(request), error);
  } catch (const std::exception& e) {
    return sdk::Fail(error, CYLLM_INTERNAL, e.what());
  }
}

void Stats(cyllm_engine* engine, cyllm_stats* out) {
  cyllm_stats stats{};
  stats.running = Of(engine)->live();
  sdk::Write(stats, out);
}

const cyllm_engine_api kApi = {
    sizeof(cyllm_engine_api),
    CYLLM_ENGINE_ABI_MAJOR,
    CYLLM_ENGINE_ABI_MINOR,
    "shout",
    "1.0",
    Create,
    Describe,
    Submit,
    [](cyllm_engine* engine, uint64_t id) { Of(engine)->Cancel(id); },
    [](cyllm_engine* engine, uint64_t id, uint32_t events) { Of(engine)->Credit(id, events); },
    Stats,
    [](cyllm_engine* engine) { Of(engine)->Drain(); },
    [](cyllm_engine* engine) { delete Of(engine); },
};

}  // namespace
}  // namespace shout

extern "C" __attribute__((visibility("default"))) const cyllm_engine_api* cyllm_engine_entry(
    const cyllm_host* host) {
  return host && host->abi_major == CYLLM_ENGINE_ABI_MAJOR ? &shout::kApi : nullptr;
}
