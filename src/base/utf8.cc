#include "base/utf8.h"

#include <array>

namespace cyllm {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

struct Scan {
  size_t length;  // bytes taken, >= 1
  enum { kValid, kInvalid, kTruncated } what;
};

// Reads one code point at the start of non-empty `s`.
Scan ScanOne(std::string_view s) {
  const auto lead = static_cast<unsigned char>(s[0]);
  if (lead < 0x80) return {1, Scan::kValid};
  size_t need = 0;
  unsigned char low = 0x80, high = 0xBF;  // allowed range of the second byte
  if (lead >= 0xC2 && lead <= 0xDF) {
    need = 1;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    need = 2;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    need = 3;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {1, Scan::kInvalid};
  }
  for (size_t i = 1; i <= need; ++i) {
    if (i == s.size()) return {i, Scan::kTruncated};
    const auto byte = static_cast<unsigned char>(s[i]);
    if (byte < low || byte > high) return {i, Scan::kInvalid};
    low = 0x80;
    high = 0xBF;
  }
  return {need + 1, Scan::kValid};
}

}  // namespace

size_t CompleteUtf8Prefix(std::string_view text) {
  // Only the last three bytes can belong to an unfinished code point.
  const size_t first = text.size() > 3 ? text.size() - 3 : 0;
  for (size_t i = text.size(); i > first; --i) {
    const auto byte = static_cast<unsigned char>(text[i - 1]);
    if (byte < 0x80) return text.size();
    if (byte >= 0xC0) return ScanOne(text.substr(i - 1)).what == Scan::kTruncated ? i - 1 : text.size();
  }
  return text.size();
}

bool IsValidUtf8(std::string_view text) {
  while (!text.empty()) {
    const Scan scan = ScanOne(text);
    if (scan.what != Scan::kValid) return false;
    text.remove_prefix(scan.length);
  }
  return true;
}

std::string RepairUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Scan scan = ScanOne(text);
    out += scan.what == Scan::kValid ? text.substr(0, scan.length) : kReplacement;
    text.remove_prefix(scan.length);
  }
  return out;
}

void AppendJsonEscaped(std::string& out, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  size_t plain = 0;  // start of the run not yet copied
  size_t i = 0;
  auto flush = [&] { out.append(text, plain, i - plain); };
  while (i < text.size()) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\') {
      ++i;
      continue;
    }
    if (byte >= 0x80) {
      const Scan scan = ScanOne(text.substr(i));
      if (scan.what != Scan::kValid) {
        flush();
        out += kReplacement;
        plain = i + scan.length;
      }
      i += scan.length;
      continue;
    }
    flush();
    switch (byte) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        out += "\\u00";
        out += kHex[byte >> 4];
        out += kHex[byte & 15];
    }
    plain = ++i;
  }
  flush();
}

std::string JsonEscape(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 8);
  AppendJsonEscaped(out, text);
  return out;
}

size_t CountCodePoints(std::string_view text) {
  size_t count = 0;
  for (; !text.empty(); ++count) text.remove_prefix(ScanOne(text).length);
  return count;
}

}  // namespace cyllm
