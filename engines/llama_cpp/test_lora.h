// For tests: writes adapters (LoRA) of random numbers for a model's file.
#pragma once

#include <ggml-cpp.h>
#include <gguf.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace cyllm::llama::testing {

struct TestLora {
  uint32_t seed = 1;
  int64_t rank = 8;
  float alpha = 16;
  ggml_type type = GGML_TYPE_F32;
  std::string architecture;  // empty: the model's
  int64_t wider = 0;         // columns of A that the model does not have
  bool alora = false;
  std::string part = "attn_q, attn_v, ffn_down";  // of every third layer
};

// False: a file cannot be read or written.
inline bool WriteLora(const std::string& model, const std::string& path, const TestLora& lora) {
  ggml_context* tensors = nullptr;
  const gguf_context_ptr in(gguf_init_from_file(model.c_str(), {true, &tensors}));
  const ggml_context_ptr of_model(tensors);
  if (!in) return false;
  const auto text = [&](const char* key) {
    const int64_t id = gguf_find_key(in.get(), key);
    return id < 0 ? std::string() : std::string(gguf_get_val_str(in.get(), id));
  };
  const gguf_context_ptr out(gguf_init_empty());
  const std::string architecture =
      lora.architecture.empty() ? text("general.architecture") : lora.architecture;
  gguf_set_val_str(out.get(), "general.type", "adapter");
  gguf_set_val_str(out.get(), "general.architecture", architecture.c_str());
  gguf_set_val_str(out.get(), "adapter.type", "lora");
  gguf_set_val_f32(out.get(), "adapter.lora.alpha", lora.alpha);
  const uint32_t tokens[] = {1, 2};
  if (lora.alora)
    gguf_set_arr_data(out.get(), "adapter.alora.invocation_tokens", GGUF_TYPE_UINT32, tokens, 2);
  std::mt19937 random(lora.seed);
  const ggml_context_ptr own(ggml_init({size_t{256} << 20, nullptr, false}));
  const auto add = [&](const std::string& name, int64_t columns, int64_t rows, double deviation) {
    ggml_tensor* tensor = ggml_new_tensor_2d(own.get(), lora.type, columns, rows);
    ggml_set_name(tensor, name.c_str());
    std::normal_distribution<float> normal(0, static_cast<float>(deviation));
    std::vector<float> values(static_cast<size_t>(columns * rows));
    for (float& v : values) v = normal(random);
    ggml_quantize_chunk(lora.type, values.data(), tensor->data, 0, rows, columns, nullptr);
    gguf_add_tensor(out.get(), tensor);
  };
  for (ggml_tensor* t = ggml_get_first_tensor(tensors); t; t = ggml_get_next_tensor(tensors, t)) {
    const std::string_view name = ggml_get_name(t);
    int layer = 0;
    char part[64] = {};
    if (std::sscanf(name.data(), "blk.%d.%63s", &layer, part) != 2 || layer % 3 != 0) continue;
    const std::string_view which = part;
    if (!which.ends_with(".weight") || lora.part.find(which.substr(0, which.size() - 7)) == std::string::npos)
      continue;
    add(std::string(name) + ".lora_a", t->ne[0] + lora.wider, lora.rank,
        1 / std::sqrt(static_cast<double>(t->ne[0])));
    add(std::string(name) + ".lora_b", lora.rank, t->ne[1], 0.1);
  }
  return gguf_write_to_file(out.get(), path.c_str(), false);
}

}  // namespace cyllm::llama::testing
