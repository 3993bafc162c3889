#include "llama_cpp/adapter_file.h"

#include <ggml-cpp.h>
#include <gguf.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <vector>

namespace cyllm::llama {

namespace {

constexpr int64_t kStep = 4;  // of the sizes that ggml multiplies in blocks
constexpr std::string_view kA = ".lora_a", kB = ".lora_b";

std::string Text(const gguf_context* file, const char* key) {
  const int64_t id = gguf_find_key(file, key);
  return id >= 0 && gguf_get_kv_type(file, id) == GGUF_TYPE_STRING ? gguf_get_val_str(file, id) : "";
}

float Alpha(const gguf_context* file) {
  const int64_t id = gguf_find_key(file, "adapter.lora.alpha");
  return id >= 0 && gguf_get_kv_type(file, id) == GGUF_TYPE_FLOAT32 ? gguf_get_val_f32(file, id) : 0;
}

std::string Wrong(const gguf_context* file, const std::string& architecture) {
  if (Text(file, "general.type") != "adapter") return "is no adapter";
  if (Text(file, "adapter.type") != "lora") return "is no LoRA";
  if (const std::string own = Text(file, "general.architecture"); own != architecture)
    return "is for another model: its architecture is '" + own + "', the model's '" + architecture + "'";
  if (gguf_find_key(file, "adapter.alora.invocation_tokens") >= 0)
    return "is an activated LoRA (aLoRA), which is not offered";
  return gguf_get_n_tensors(file) == 0 ? "changes nothing: it has no tensors" : "";
}

int64_t Padding(int64_t rank) { return rank % kStep == 0 ? 1 : 0; }

bool IsPart(const ggml_tensor* tensor) {
  const std::string_view name = ggml_get_name(tensor);
  return name.ends_with(kA) || name.ends_with(kB);
}

// A's rows of a layer are so many; of token embeddings both parts' columns.
bool ByColumns(const ggml_tensor* tensor) {
  const std::string_view name = ggml_get_name(tensor);
  return name.ends_with(kB) || name.ends_with("token_embd.weight.lora_a");
}
int64_t Rank(const ggml_tensor* tensor) { return ByColumns(tensor) ? tensor->ne[0] : tensor->ne[1]; }

// Not the one that holds the data of all.
std::vector<ggml_tensor*> Tensors(const gguf_context* file, ggml_context* loaded) {
  std::vector<ggml_tensor*> out;
  for (int64_t i = 0; i < gguf_get_n_tensors(file); ++i)
    out.push_back(ggml_get_tensor(loaded, gguf_get_tensor_name(file, i)));
  return out;
}

std::vector<float> Floats(const ggml_tensor* tensor) {
  const auto n = static_cast<size_t>(ggml_nelements(tensor));
  std::vector<float> out(n);
  if (tensor->type == GGML_TYPE_F32) {
    std::memcpy(out.data(), tensor->data, n * sizeof(float));
  } else if (const auto to_float = ggml_get_type_traits(tensor->type)->to_float) {
    to_float(tensor->data, out.data(), static_cast<int64_t>(n));
  }
  return out;
}

ggml_tensor* Padded(ggml_context* context, const ggml_tensor* from, float alpha) {
  const std::vector<float> values = Floats(from);
  const int64_t rank = Rank(from), padding = Padding(rank);
  std::array<int64_t, 4> size = {from->ne[0], from->ne[1], from->ne[2], from->ne[3]};
  size[ByColumns(from) ? 0 : 1] += padding;
  ggml_tensor* to = ggml_new_tensor(context, GGML_TYPE_F32, 4, size.data());
  ggml_set_name(to, ggml_get_name(from));
  std::memset(to->data, 0, ggml_nbytes(to));
  const bool b = std::string_view(ggml_get_name(from)).ends_with(kB);
  const float factor = b && alpha != 0 ? alpha / static_cast<float>(rank) : 1;
  const int64_t rows = from->ne[1], matrices = from->ne[2] * from->ne[3];
  auto* const out = static_cast<float*>(to->data);
  for (int64_t m = 0; m < matrices; ++m)
    for (int64_t r = 0; r < rows; ++r) {
      const auto row = values.begin() + (m * rows + r) * from->ne[0];
      std::transform(row, row + from->ne[0], out + (m * size[1] + r) * size[0],
                     [&](float v) { return v * factor; });
    }
  return to;
}

FilePtr Rewrite(const gguf_context* file, const std::vector<ggml_tensor*>& tensors,
                const std::string& architecture) {
  size_t room = 0;
  for (const ggml_tensor* t : tensors)
    room += ggml_tensor_overhead() + 64 +
            sizeof(float) *
                static_cast<size_t>(ggml_nelements(t) / std::max<int64_t>(1, Rank(t)) * (Rank(t) + 1));
  const ggml_context_ptr own(ggml_init({room, nullptr, false}));
  const gguf_context_ptr out(gguf_init_empty());
  if (!own) return nullptr;
  gguf_set_val_str(out.get(), "general.type", "adapter");
  gguf_set_val_str(out.get(), "general.architecture", architecture.c_str());
  gguf_set_val_str(out.get(), "adapter.type", "lora");
  gguf_set_val_f32(out.get(), "adapter.lora.alpha", 0);  // no factor
  for (const ggml_tensor* t : tensors)
    gguf_add_tensor(out.get(), IsPart(t) ? Padded(own.get(), t, Alpha(file)) : t);
  FilePtr written(fdopen(memfd_create("adapter", MFD_CLOEXEC), "w+b"));
  if (!written || !gguf_write_to_file_ptr(out.get(), written.get(), false)) return nullptr;
  std::rewind(written.get());
  return written;
}

}  // namespace

FilePtr OpenAdapter(const std::string& path, const std::string& architecture, bool exact, std::string* why) {
  const auto fail = [&](std::string what) {
    *why = std::move(what);
    return nullptr;
  };
  FilePtr file(std::fopen(path.c_str(), "rb"));
  std::array<char, 4> magic{};
  if (!file || std::fread(magic.data(), 1, magic.size(), file.get()) != magic.size())
    return fail("cannot be read");
  if (std::string_view(magic.data(), magic.size()) != "GGUF") return fail("is no GGUF file");
  std::rewind(file.get());
  ggml_context* loaded = nullptr;
  const gguf_context_ptr gguf(gguf_init_from_file_ptr(file.get(), {false, &loaded}));
  const ggml_context_ptr owner(loaded);
  if (!gguf || !owner) return fail("is damaged");
  if (std::string what = Wrong(gguf.get(), architecture); !what.empty()) return fail(std::move(what));
  std::rewind(file.get());
  const std::vector<ggml_tensor*> tensors = Tensors(gguf.get(), loaded);
  const bool even = std::any_of(tensors.begin(), tensors.end(),
                                [](const ggml_tensor* t) { return IsPart(t) && Padding(Rank(t)) > 0; });
  if (!exact || !even) return file;
  file = Rewrite(gguf.get(), tensors, architecture);
  return file ? std::move(file) : fail("needs more memory than there is");
}

}  // namespace cyllm::llama
