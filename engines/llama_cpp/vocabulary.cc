#include "llama_cpp/vocabulary.h"

namespace cyllm::llama {

namespace {

// 0: any.
int ClassOf(unsigned char c) {
  if (c >= 0x80) return 0;
  if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') return 1;
  if (c >= '0' && c <= '9') return 2;
  return c == ' ' || (c >= '\t' && c <= '\r') ? 3 : 4;
}

}  // namespace

bool HasLongStretch(std::string_view text) {
  if (text.size() < kLongStretch) return false;
  int of = 0;
  size_t length = 0, any = 0;  // any: of its end, what may be of the next one too
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte & 0xC0) == 0x80) continue;  // goes on with a character
    const int now = ClassOf(byte);
    if (now != 0 && of != 0 && now != of) length = any;
    if (now != 0) of = now;
    any = now == 0 ? any + 1 : 0;
    if (++length >= kLongStretch) return true;
  }
  return false;
}

}  // namespace cyllm::llama
