#include "llama_cpp/llama_adapters.h"

#include <llama.h>

#include <array>

#include "llama_cpp/adapter_file.h"
#include "llama_cpp/llama_decoder.h"

namespace cyllm::llama {

bool LoadAdapters(llama_model* model, const Options& options, LlamaAdapters* out, std::string* error) {
  std::array<char, 128> architecture{};
  llama_model_meta_val_str(model, "general.architecture", architecture.data(), architecture.size());
  for (const auto& [name, path] : options.adapters) {
    std::string why;
    const FilePtr file = OpenAdapter(path, architecture.data(), !Offloads(options), &why);
    llama_adapter_lora* const lora =
        file ? llama_adapter_lora_init_from_file_ptr(model, file.get()) : nullptr;
    if (!lora) {
      if (file) why = "is for another model, or damaged (the log says more)";
      *error = "the adapter '" + name + "': " + path + " " + why;
      return false;
    }
    out->names.push_back(name);
    out->loras.push_back(lora);
  }
  return true;
}

}  // namespace cyllm::llama
