// Bodies of any kind: parsed or refused with a message, never more. What is accepted can be sent on and read
// again.
#include "gateway/dialects/common/fuzz.h"
#include "gateway/dialects/openai/openai.h"

using namespace cyllm;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  for (const dialect::ParseFn parse : {openai::ParseChat, openai::ParseCompletion, openai::ParseEmbeddings,
                                       openai::ParseRerank, openai::ParseTokenize, openai::ParseDetokenize})
    dialect::FuzzParser(parse, openai::kDialect, {reinterpret_cast<const char*>(data), size});
  return 0;
}
