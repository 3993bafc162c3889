// A request's head (request line and fields) by RFC 9112, strict where smuggling starts: what could be read
// in two ways is refused. Pure functions.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cyllm {

struct HeadLimits {
  size_t max_target_bytes = 16u << 10;
  size_t max_fields = 100;
};

// Views into the parsed text.
struct RequestHead {
  struct Field {
    std::string_view name, value;
  };
  std::string_view method;
  std::string_view target;  // in origin form: a path and perhaps a query; "*" of OPTIONS
  bool http10 = false;
  std::vector<Field> fields;
  std::optional<uint64_t> content_length;
  bool chunked = false;
  bool keep_alive = true;
  bool expects_continue = false;
};

// Why it is none, as a response: 400, 405, 414, 415, 417, 431; what a client gets wrong is never a 5xx. The
// connection cannot be used further.
struct HeadError {
  int status = 400;
  std::string_view message;
};

// `text`: from the request line up to and with the empty line. Every line must end in CRLF.
std::expected<RequestHead, HeadError> ParseHead(std::string_view text, const HeadLimits& limits);

// How many bytes of `text` are a whole head; 0: its end has not come yet. Looks on from `from`, what was
// looked at before. Sees an end also where lines end in LF alone, so that ParseHead can refuse it at once.
size_t FindHeadEnd(std::string_view text, size_t from);

// Whether `text`, a head whose end has not come, can still become one: a method and a space, or a piece of
// that. False: something that is not HTTP.
bool LooksLikeHead(std::string_view text);

bool EqualsIgnoringCase(std::string_view a, std::string_view b);

}  // namespace cyllm
