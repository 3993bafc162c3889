// How much a KV cache keeps of each token.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace cyllm::llama {

// Elements of a token in a layer's cache.
struct KvWidth {
  uint64_t key = 0, value = 0;
  bool operator==(const KvWidth&) const = default;
};

// Pure. `meta` gives the model file's values by their keys, empty where there is none. Heads have the size
// that the file says, else an equal part of `n_embd`; where keys and values are kept in one (MLA), there are
// no values.
KvWidth KvWidthOf(const std::function<std::string(const std::string& key)>& meta, uint64_t n_embd,
                  uint64_t n_head, uint64_t n_head_kv);

}  // namespace cyllm::llama
