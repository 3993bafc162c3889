// Bodies of any kind (see dialects/common/fuzz.h).
#include "gateway/dialects/common/fuzz.h"
#include "gateway/dialects/legacy/legacy.h"

using namespace cyllm;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  for (const dialect::ParseFn parse : {legacy::ParseInference, legacy::ParseInferenceStream})
    dialect::FuzzParser(parse, legacy::kDialect, {reinterpret_cast<const char*>(data), size});
  return 0;
}
