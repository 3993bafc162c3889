#include "llama_cpp/llama_model.h"

#include <llama.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

#include "llama_cpp/llama_adapters.h"
#include "llama_cpp/llama_decoder.h"
#include "llama_cpp/llama_vocabulary.h"
#include "llama_cpp/prompt_lane.h"
#include "sdk/engine.hpp"

namespace cyllm::llama {

namespace {

uint64_t Fnv(uint64_t hash, std::string_view bytes) {
  for (const char c : bytes) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3u;
  return hash;
}

// Of size, head and tail of a file. Not cryptographic.
uint64_t OfFile(uint64_t hash, const std::string& path) {
  constexpr std::streamoff kPart = 1 << 18;
  std::error_code failed;
  const auto size = static_cast<std::streamoff>(std::filesystem::file_size(path, failed));
  hash = Fnv(hash, std::to_string(size));
  std::ifstream in(path, std::ios::binary);
  std::string part(static_cast<size_t>(kPart), '\0');
  for (const std::streamoff at : {std::streamoff{0}, std::max<std::streamoff>(0, size - kPart)}) {
    in.clear();
    in.seekg(at);
    in.read(part.data(), kPart);
    hash = Fnv(hash, std::string_view(part).substr(0, static_cast<size_t>(in.gcount())));
  }
  return hash;
}

// Tells models, templates and adapters apart.
std::string Digest(const Options& options, const std::string& chat_template) {
  uint64_t hash = Fnv(OfFile(0xCBF29CE484222325u, options.model_path), chat_template);
  for (const auto& [name, path] : options.adapters)
    hash = OfFile(Fnv(hash, name + '\0' + std::to_string(name.size())), path);
  std::array<char, 48> out{};
  std::snprintf(out.data(), out.size(), "llama.cpp-" CY_LLAMA_VERSION "-%016llx",
                static_cast<unsigned long long>(hash));
  return out.data();
}

// Makes a file readable for everybody the same way: what is wrong with it, or empty.
std::string Unreadable(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::array<char, 4> magic{};
  if (!in.read(magic.data(), magic.size())) return "cannot be read";
  return std::string_view(magic.data(), magic.size()) == "GGUF" ? "" : "is no GGUF file";
}

// For models that give vectors or scores only.
class NoDecoder final : public Decoder {
 public:
  explicit NoDecoder(uint32_t length) : length_(length) {}
  uint32_t max_sequences() const override { return 1; }
  uint32_t max_running() const override { return 1; }
  uint32_t max_length() const override { return length_; }
  uint32_t vocabulary() const override { return 0; }
  const std::vector<std::string>& adapters() const override { return none_; }
  void SetAdapter(uint32_t) override {}
  uint32_t threads() const override { return 1; }
  void SetThreads(uint32_t) override {}
  bool can_copy() const override { return false; }
  DecodeResult Decode(std::span<const Row>, const std::atomic<bool>&) override {
    return DecodeResult::kFailed;
  }
  std::span<float> Logits(size_t) override { return {}; }
  void Truncate(uint32_t, uint32_t) override {}
  void Copy(uint32_t, uint32_t) override {}
  bool Save(uint32_t, std::vector<uint8_t>*) override { return false; }
  bool Restore(uint32_t, std::span<uint8_t>) override { return false; }

 private:
  const uint32_t length_;
  const std::vector<std::string> none_;
};

// Prefill and decoding share the CPU's cores; what a GPU computes is better computed in turns. What a
// sequence holds has to be cut where a prefix ends.
bool LaneHelps(const llama_model* model, const Options& options) {
  return ThreadsOf(options) >= 2 && !Offloads(options) && CanCut(model) && llama_model_n_swa(model) == 0;
}

uint64_t CapabilitiesOf(const LoadedModel& model, bool adapters) {
  uint64_t out = CYLLM_CAP_TOKENIZE | (model.aside.ranks ? CYLLM_CAP_RERANK : CYLLM_CAP_EMBED);
  if (!model.generates) return out;
  out |= CYLLM_CAP_CHAT | CYLLM_CAP_TEXT | CYLLM_CAP_TOKENS | CYLLM_CAP_LOGPROBS | CYLLM_CAP_TOOLS |
         CYLLM_CAP_JSON_SCHEMA | CYLLM_CAP_RESUME;
  if (adapters) out |= CYLLM_CAP_LORA;
  return model.vocabulary->infill() ? out | CYLLM_CAP_INFILL : out;
}

}  // namespace

std::unique_ptr<LoadedModel> LoadModel(const Options& options, const LoadProgress& progress,
                                       cyllm_error* error) {
  const auto fail = [&](int32_t code, const std::string& message) {
    sdk::Fail(error, code, message, code == CYLLM_CANCELLED ? "cancelled" : "load_failed");
    return nullptr;
  };
  const std::string name = std::filesystem::path(options.model_path).filename().string();
  if (const std::string why = Unreadable(options.model_path); !why.empty())
    return fail(CYLLM_NOT_FOUND, "the model file " + options.model_path + " " + why);

  struct Forward {
    const LoadProgress& progress;
    bool stopped = false;
  } forward{progress};
  llama_model_params params = llama_model_default_params();
  if (options.n_gpu_layers) params.n_gpu_layers = *options.n_gpu_layers;
  params.progress_callback_user_data = &forward;
  params.progress_callback = [](float fraction, void* user) {
    auto* f = static_cast<Forward*>(user);
    f->stopped = f->stopped || (f->progress && !f->progress(0.9 * fraction, "reading the model"));
    return !f->stopped;
  };
  llama_model* model = llama_model_load_from_file(options.model_path.c_str(), params);
  if (!model && forward.stopped) return fail(CYLLM_CANCELLED, "loading was stopped");
  if (!model) return fail(CYLLM_INTERNAL, "llama.cpp cannot load " + name + " (the log says more)");

  auto out = std::make_unique<LoadedModel>();
  out->model = std::shared_ptr<void>(model, [](void* m) { llama_model_free(static_cast<llama_model*>(m)); });
  if (!llama_model_has_decoder(model) || llama_model_has_encoder(model) || llama_model_is_diffusion(model))
    return fail(CYLLM_UNIMPLEMENTED, name + " is no model that continues text");
  std::string why;
  LlamaAdapters adapters;
  if (!LoadAdapters(model, options, &adapters, &why))
    return fail(CYLLM_FAILED_PRECONDITION, name + ": " + why);
  out->chat = LoadChatTemplate(model, options.chat_template, &why);
  if (!out->chat) return fail(CYLLM_INVALID_ARGUMENT, name + ": " + why);
  out->vocabulary = MakeVocabulary(model);
  const EmbedTraits traits = EmbedTraitsOf(model, options);
  out->generates = traits.causal && !traits.ranks;
  out->aside = {[model, options](std::string* error) { return MakeEmbedder(model, options, error); },
                traits.ranks};
  out->capabilities = CapabilitiesOf(*out, !options.adapters.empty());
  out->digest = Digest(options, out->chat->source());
  if (!out->generates) {
    out->decoder = std::make_unique<NoDecoder>(traits.max_tokens);
    out->memory_bytes = llama_model_size(model) + traits.bytes;
    return out;
  }
  if (progress && !progress(0.9, "making room for sequences"))
    return fail(CYLLM_CANCELLED, "loading was stopped");
  const uint64_t per_token = KvBytesPerToken(model, options.kv_cache_dtype);
  const uint64_t budget = options.kv_cache_mib ? uint64_t{options.kv_cache_mib} << 20 : DefaultKvBytes();
  Options own = options;
  own.prefill_lane = own.prefill_lane && LaneHelps(model, options);
  const KvPlan plan =
      PlanKv(own, static_cast<uint32_t>(std::max(1, llama_model_n_ctx_train(model))), per_token, budget);
  out->decoder = MakeDecoder(model, adapters, own, plan, &why);
  if (!out->decoder) return fail(CYLLM_RESOURCE_EXHAUSTED, name + ": " + why);
  if (plan.seats > 0) {
    own.prefill_chunk = std::min(own.prefill_chunk, PromptLane::kMost);
    out->prompts = MakeDecoder(model, adapters, own, {out->decoder->max_length(), plan.seats}, &why);
    if (!out->prompts) return fail(CYLLM_RESOURCE_EXHAUSTED, name + ": " + why);
  }
  const uint32_t sequences = out->decoder->max_sequences() + plan.seats;
  uint64_t files = 0;
  for (const auto& [adapter, path] : options.adapters) files += std::filesystem::file_size(path);
  out->memory_bytes =
      llama_model_size(model) + files + per_token * out->decoder->max_length() * sequences + traits.bytes;
  return out;
}

}  // namespace cyllm::llama
