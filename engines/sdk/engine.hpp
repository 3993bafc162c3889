// Header-only help for engines written in C++ against engine.h.
#pragma once

#include <cstring>
#include <string_view>
#include <type_traits>

#include "engine.h"

namespace cyllm::sdk {

inline std::string_view View(cyllm_str s) {
  return s.data ? std::string_view(s.data, s.len) : std::string_view();
}
inline cyllm_str Str(std::string_view s) { return {s.data(), s.size()}; }

// A struct as its writer knew it: what lies past its `size` is zero.
template <class T>
T Read(const T* in) {
  static_assert(std::is_trivially_copyable_v<T>);
  T out;
  std::memset(&out, 0, sizeof out);
  if (in) std::memcpy(&out, in, in->size < sizeof out ? in->size : sizeof out);
  return out;
}

// Element `i` of an array as its writer laid it out: only what lies within its `size` may be read.
template <class T>
const T& At(const T* array, size_t i) {
  return *reinterpret_cast<const T*>(reinterpret_cast<const char*>(array) + i * array->size);
}

// A struct for its reader: only the part that the reader knows is written, and its `size` stays.
template <class T>
void Write(T value, T* out) {
  static_assert(std::is_trivially_copyable_v<T>);
  const size_t size = out->size;
  value.size = size;
  std::memcpy(out, &value, size < sizeof value ? size : sizeof value);
}

// Copies `text` into a zero-terminated field, cut at a code point.
template <size_t N>
void Copy(std::string_view text, char (&field)[N]) {
  size_t n = text.size() < N ? text.size() : N - 1;
  while (n > 0 && n < text.size() && (static_cast<unsigned char>(text[n]) & 0xC0) == 0x80) --n;
  if (n > 0) std::memcpy(field, text.data(), n);
  field[n] = 0;
}

// Fills `error` (when there is one) and returns its code.
inline int32_t Fail(cyllm_error* error, int32_t code, std::string_view message, std::string_view reason = {},
                    std::string_view param = {}, bool retryable = false) {
  if (error) {
    cyllm_error e;
    std::memset(&e, 0, sizeof e);
    e.code = code;
    e.retryable = retryable;
    Copy(message, e.message);
    Copy(reason, e.reason);
    Copy(param, e.param);
    Write(e, error);
  }
  return code;
}

// Whether `text` is UTF-8: no overlong forms, no surrogates, nothing past U+10FFFF.
inline bool IsUtf8(std::string_view text) {
  static constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80   ? 1
                          : lead < 0xC0 ? 0
                          : lead < 0xE0 ? 2
                          : lead < 0xF0 ? 3
                          : lead < 0xF8 ? 4
                                        : 0;
    if (length == 0 || i + length > text.size()) return false;
    uint32_t code = length == 1 ? lead : lead & (0x7Fu >> length);
    for (size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xC0) != 0x80) return false;
      code = code << 6 | (next & 0x3F);
    }
    if (length > 1 && (code < kLeast[length] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)))
      return false;
    i += length;
  }
  return true;
}

// An event with everything zero but its head.
inline cyllm_event MakeEvent(uint64_t id, uint32_t type, uint32_t choice = 0) {
  cyllm_event event;
  std::memset(&event, 0, sizeof event);
  event.size = sizeof event;
  event.id = id;
  event.type = type;
  event.choice = choice;
  return event;
}

}  // namespace cyllm::sdk
