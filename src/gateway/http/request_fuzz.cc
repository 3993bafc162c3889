// Bytes of any kind: a head is found and parsed or refused, a body decoded or refused; views stay inside the
// text.
#include <cstdlib>

#include "gateway/http/chunked.h"
#include "gateway/http/head.h"

using namespace cyllm;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)LooksLikeHead(text);
  const size_t end = FindHeadEnd(text, 0);
  if (end > size) std::abort();
  const auto head = ParseHead(text.substr(0, end), {});
  if (head) {
    for (const auto& field : head->fields) {
      if (field.name.empty() || field.value.find_first_of("\r\n") != std::string_view::npos) std::abort();
    }
    if (head->target.empty() || (head->chunked && head->content_length)) std::abort();
  } else if (head.error().status < 400 || head.error().message.empty()) {
    std::abort();
  }
  text.remove_prefix(end);
  ChunkedDecoder decoder(1000);
  std::string body;
  size_t used = 0;
  decoder.Feed(text, used, body);
  if (used > text.size() || body.size() > 1000) std::abort();
  return 0;
}
