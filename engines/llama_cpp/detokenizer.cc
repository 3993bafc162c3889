#include "llama_cpp/detokenizer.h"

#include <cstdint>
#include <utility>

namespace cyllm::llama {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

struct Lead {
  size_t length;      // of the code point; 0: no lead byte
  uint8_t low, high;  // of the second byte
};

Lead Classify(uint8_t b) {
  if (b < 0x80) return {1, 0, 0};
  if (b < 0xC2 || b > 0xF4) return {0, 0, 0};
  if (b < 0xE0) return {2, 0x80, 0xBF};
  if (b < 0xF0)
    return {3, static_cast<uint8_t>(b == 0xE0 ? 0xA0 : 0x80), static_cast<uint8_t>(b == 0xED ? 0x9F : 0xBF)};
  return {4, static_cast<uint8_t>(b == 0xF0 ? 0x90 : 0x80), static_cast<uint8_t>(b == 0xF4 ? 0x8F : 0xBF)};
}

}  // namespace

std::string Detokenizer::Push(std::string_view bytes) {
  const std::string in = std::exchange(held_, {}).append(bytes);
  std::string out;
  out.reserve(in.size());
  for (size_t i = 0; i < in.size();) {
    const Lead lead = Classify(static_cast<uint8_t>(in[i]));
    size_t n = lead.length > 0 ? 1 : 0;  // bytes of this code point that are there and right
    while (n > 0 && n < lead.length && i + n < in.size()) {
      const auto b = static_cast<uint8_t>(in[i + n]);
      if (b < (n == 1 ? lead.low : 0x80) || b > (n == 1 ? lead.high : 0xBF)) break;
      ++n;
    }
    if (n == lead.length && n > 0) {
      out.append(in, i, n);
    } else if (n > 0 && i + n == in.size()) {
      held_.assign(in, i);
      break;
    } else {
      out += kReplacement;
      n = n > 0 ? n : 1;
    }
    i += n;
  }
  return out;
}

std::string Detokenizer::Flush() {
  return std::exchange(held_, {}).empty() ? std::string() : std::string(kReplacement);
}

}  // namespace cyllm::llama
