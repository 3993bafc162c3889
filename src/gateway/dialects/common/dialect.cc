#include "gateway/dialects/common/dialect.h"

#include <algorithm>

namespace cyllm::dialect {

void Totals::Add(const Finished& f, bool first_of_its_request) {
  ++finished;
  if (first_of_its_request) {  // the prompt counts once
    prompt_tokens += f.usage.prompt_tokens;
    cached_tokens += f.usage.cached_tokens;
  }
  completion_tokens += f.usage.completion_tokens;
  reasoning_tokens += f.usage.reasoning_tokens;
  queue_ms = std::max(queue_ms, f.timings.queue_ms);
  ttft_ms = std::max(ttft_ms, f.timings.ttft_ms);
  decode_ms = std::max(decode_ms, f.timings.decode_ms);
}

double Totals::tokens_per_second() const {
  const double ms = ttft_ms + decode_ms;
  return ms > 0 ? completion_tokens * 1000.0 / ms : 0;
}

}  // namespace cyllm::dialect
