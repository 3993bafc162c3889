// Bodies of any kind (see dialects/common/fuzz.h).
#include "gateway/dialects/anthropic/anthropic.h"
#include "gateway/dialects/common/fuzz.h"

using namespace cyllm;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  for (const dialect::ParseFn parse : {anthropic::ParseMessages, anthropic::ParseCountTokens})
    dialect::FuzzParser(parse, anthropic::kDialect, {reinterpret_cast<const char*>(data), size});
  return 0;
}
