#include "llama_cpp/kv_width.h"

#include <algorithm>
#include <cstdlib>

namespace cyllm::llama {

KvWidth KvWidthOf(const std::function<std::string(const std::string& key)>& meta, uint64_t n_embd,
                  uint64_t n_head, uint64_t n_head_kv) {
  const std::string attention = meta("general.architecture") + ".attention.";
  const auto number = [&](const char* key) {
    return static_cast<uint64_t>(std::strtoul(meta(attention + key).c_str(), nullptr, 10));
  };
  n_head = std::max<uint64_t>(1, n_head), n_head_kv = std::max<uint64_t>(1, n_head_kv);
  const auto width = [&](const char* key) {
    const uint64_t length = number(key);
    return length > 0 ? length * n_head_kv : n_embd * n_head_kv / n_head;
  };
  const bool in_one = number("key_length_mla") > 0 && number("value_length_mla") > 0;
  return {width("key_length"), in_one ? 0 : width("value_length")};
}

}  // namespace cyllm::llama
