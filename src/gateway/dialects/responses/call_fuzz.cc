// Bodies of any kind (see dialects/common/fuzz.h).
#include "gateway/dialects/common/fuzz.h"
#include "gateway/dialects/openai/openai.h"
#include "gateway/dialects/responses/responses.h"

using namespace cyllm;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  for (const dialect::ParseFn parse : {responses::Parse, responses::ParseInputTokens})
    dialect::FuzzParser(parse, openai::kDialect, {reinterpret_cast<const char*>(data), size});
  return 0;
}
