// Bodies of any kind: parsed or refused with a message, never more. What is accepted can be sent on and read
// again.
#include <cstdlib>

#include "gateway/dialects/openai/call.h"
#include "gateway/dialects/openai/error.h"

using namespace cyllm;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  for (auto* parse : {openai::ParseChat, openai::ParseCompletion}) {
    const Result<openai::Call> call = parse(body, {});
    if (!call) {
      const openai::ApiError error = openai::FromStatus(call.error());
      if (error.http < 400 || error.http >= 500 || error.message.empty() || error.message.size() > 10'000)
        std::abort();
      continue;
    }
    if (call->requests.empty()) std::abort();
    for (const Request& request : call->requests) {
      const auto again = Payload::FromBytes(request.payload->bytes())->parts();
      if (!again || **again != **request.payload->parts()) std::abort();
    }
  }
  return 0;
}
