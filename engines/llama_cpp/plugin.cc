// The engine behind the C ABI.
#include <cstring>
#include <exception>
#include <memory>
#include <string>

#include "llama_cpp/backend.h"
#include "llama_cpp/engine.h"
#include "llama_cpp/llama_model.h"
#include "llama_cpp/options.h"
#include "sdk/engine.hpp"

namespace cyllm::llama {
namespace {

// What the host knows as cyllm_engine.
struct Instance {
  std::unique_ptr<LoadedModel> model;
  uint32_t max_step_tokens = 0;
  std::unique_ptr<Engine> engine;  // destroyed first
};

Instance* Of(cyllm_engine* engine) { return reinterpret_cast<Instance*>(engine); }

cyllm_engine* CreateOrThrow(cyllm_str config, const cyllm_callbacks* callbacks, const LoadProgress& progress,
                            cyllm_error* error) {
  std::string why;
  const std::optional<Options> options = ParseOptions(sdk::View(config), &why);
  if (!options) {
    sdk::Fail(error, CYLLM_INVALID_ARGUMENT, why, "invalid_value");
    return nullptr;
  }
  if (!LoadBackends("", &why)) {
    sdk::Fail(error, CYLLM_FAILED_PRECONDITION, why, "library");
    return nullptr;
  }
  auto instance = std::make_unique<Instance>();
  instance->model = LoadModel(*options, progress, error);
  if (!instance->model) return nullptr;
  const LoadedModel& model = *instance->model;
  instance->max_step_tokens = options->prefill_chunk;
  instance->engine = std::make_unique<Engine>(
      *model.decoder, *model.vocabulary, *model.chat,
      EngineLimits{options->prefill_chunk, options->max_waiting, options->target_itl_ms,
                   options->prefix_caching, options->speculation},
      sdk::Read(callbacks), model.aside, model.prompts.get());
  return reinterpret_cast<cyllm_engine*>(instance.release());
}

cyllm_engine* Create(cyllm_str config, const cyllm_callbacks* callbacks, cyllm_progress_fn progress,
                     void* ctx, cyllm_error* error) {
  const LoadProgress report = [&](double fraction, const std::string& detail) {
    return !progress || progress(ctx, fraction, sdk::Str(detail)) == 0;
  };
  try {
    return CreateOrThrow(config, callbacks, report, error);
  } catch (const std::exception& e) {
    sdk::Fail(error, CYLLM_INTERNAL, e.what());
    return nullptr;
  }
}

void Describe(cyllm_engine* engine, cyllm_description* out) {
  const LoadedModel& model = *Of(engine)->model;
  cyllm_description d{};
  d.capabilities = model.capabilities;
  d.max_model_len = model.decoder->max_length();
  d.max_running = model.decoder->max_running();
  d.memory_bytes = model.memory_bytes;
  sdk::Copy(model.digest, d.digest);
  d.max_step_tokens = Of(engine)->max_step_tokens;
  sdk::Write(d, out);
}

int32_t Submit(cyllm_engine* engine, const cyllm_request* request, cyllm_error* error) {
  try {
    return Of(engine)->engine->Submit(sdk::Read(request), error);
  } catch (const std::exception& e) {
    return sdk::Fail(error, CYLLM_INTERNAL, e.what());
  }
}

const cyllm_engine_api kApi = {
    sizeof(cyllm_engine_api),
    CYLLM_ENGINE_ABI_MAJOR,
    CYLLM_ENGINE_ABI_MINOR,
    "llama_cpp",
    LibraryVersion(),
    Create,
    Describe,
    Submit,
    [](cyllm_engine* engine, uint64_t id) { Of(engine)->engine->Cancel(id); },
    [](cyllm_engine* engine, uint64_t id, uint32_t events) { Of(engine)->engine->Credit(id, events); },
    [](cyllm_engine* engine, cyllm_stats* out) { sdk::Write(Of(engine)->engine->Stats(), out); },
    [](cyllm_engine* engine) { Of(engine)->engine->Drain(); },
    [](cyllm_engine* engine) { delete Of(engine); },
};

}  // namespace
}  // namespace cyllm::llama

extern "C" __attribute__((visibility("default"))) const cyllm_engine_api* cyllm_engine_entry(
    const cyllm_host* host) {
  if (!host || host->abi_major != CYLLM_ENGINE_ABI_MAJOR) return nullptr;
  cyllm::llama::SetLog(host);
  return &cyllm::llama::kApi;
}
