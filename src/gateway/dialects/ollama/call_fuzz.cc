// Bodies of any kind (see dialects/common/fuzz.h).
#include "gateway/dialects/common/fuzz.h"
#include "gateway/dialects/ollama/ollama.h"

using namespace cyllm;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  for (const dialect::ParseFn parse :
       {ollama::ParseChat, ollama::ParseGenerate, ollama::ParseEmbed, ollama::ParseOldEmbeddings})
    dialect::FuzzParser(parse, ollama::kDialect, body);
  (void)ollama::ShowBody({}, body);
  return 0;
}
