// A chunked body (RFC 9112, section 7.1), decoded as it comes. Strict: sizes are digits, lines end in CRLF.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace cyllm {

class ChunkedDecoder {
 public:
  enum class State : uint8_t { kMore, kDone, kMalformed, kTooLarge };

  explicit ChunkedDecoder(size_t max_bytes) : max_bytes_(max_bytes) {}

  // Appends what `in` has of the body to `body`; `used`: how much of `in` was read. After anything but kMore
  // it is over.
  State Feed(std::string_view in, size_t& used, std::string& body);

 private:
  enum class At : uint8_t { kSize, kExtension, kSizeEnd, kData, kDataEnd, kDataEnd2, kTrailer, kTrailerEnd };

  State Step(char c);

  const size_t max_bytes_;
  At at_ = At::kSize;
  uint64_t left_ = 0;    // of the chunk
  int digits_ = 0;       // of its size, so far
  size_t overhead_ = 0;  // bytes of extensions and trailers
  size_t line_ = 0;      // of the trailer line, so far
  size_t total_ = 0;
};

}  // namespace cyllm
