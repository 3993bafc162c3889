#include "gateway/http/chunked.h"

#include <algorithm>

namespace cyllm {

namespace {

constexpr size_t kMaxOverhead = 16u << 10;  // of extensions and trailers, in all

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool IsControl(char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f; }

}  // namespace

ChunkedDecoder::State ChunkedDecoder::Feed(std::string_view in, size_t& used, std::string& body) {
  used = 0;
  while (used < in.size()) {
    if (at_ == At::kData) {
      const size_t n = std::min<uint64_t>(left_, in.size() - used);
      body.append(in.substr(used, n));
      used += n;
      left_ -= n;
      if (left_ == 0) at_ = At::kDataEnd;
      continue;
    }
    if (const State state = Step(in[used++]); state != State::kMore) return state;
  }
  return State::kMore;
}

ChunkedDecoder::State ChunkedDecoder::Step(char c) {
  switch (at_) {
    case At::kSize:
      if (const int digit = HexDigit(c); digit >= 0) {
        if (++digits_ > 15) return State::kMalformed;
        left_ = left_ * 16 + static_cast<uint64_t>(digit);
        return State::kMore;
      }
      if (digits_ == 0) return State::kMalformed;
      if (c == ';') {
        at_ = At::kExtension;
      } else if (c == '\r') {
        at_ = At::kSizeEnd;
      } else {
        return State::kMalformed;
      }
      return State::kMore;
    case At::kExtension:
      if (c == '\r') {
        at_ = At::kSizeEnd;
      } else if (IsControl(c) || ++overhead_ > kMaxOverhead) {
        return State::kMalformed;
      }
      return State::kMore;
    case At::kSizeEnd:
      if (c != '\n') return State::kMalformed;
      digits_ = 0;
      if (left_ > max_bytes_ - total_) return State::kTooLarge;
      total_ += left_;
      at_ = left_ > 0 ? At::kData : At::kTrailer;
      return State::kMore;
    case At::kDataEnd:
      at_ = At::kDataEnd2;
      return c == '\r' ? State::kMore : State::kMalformed;
    case At::kDataEnd2:
      at_ = At::kSize;
      return c == '\n' ? State::kMore : State::kMalformed;
    case At::kTrailer:
      if (c == '\r') {
        at_ = At::kTrailerEnd;
        return State::kMore;
      }
      if (IsControl(c) || ++overhead_ > kMaxOverhead || (line_ == 0 && (c == ' ' || c == '\t' || c == ':')))
        return State::kMalformed;
      ++line_;
      return State::kMore;
    case At::kTrailerEnd:
      if (c != '\n') return State::kMalformed;
      if (line_ == 0) return State::kDone;
      line_ = 0;
      at_ = At::kTrailer;
      return State::kMore;
    case At::kData:
      break;
  }
  return State::kMalformed;
}

}  // namespace cyllm
