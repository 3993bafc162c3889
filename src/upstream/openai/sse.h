// Cuts a stream of server-sent events (WHATWG HTML, section 9.2) into the data of its events, as it comes.
// Bounded: an event larger than the limit is an error, not memory.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace cyllm::upstream {

class SseParser {
 public:
  explicit SseParser(size_t max_event_bytes) : max_(max_event_bytes) {}

  // Any piece of the stream, in order; appends the data of the events that it completes. Comments, other
  // fields and events without data are passed over. False: an event is too large; feed no more.
  bool Feed(std::string_view piece, std::vector<std::string>& events);

 private:
  bool Line(std::string_view line, std::vector<std::string>& events);

  const size_t max_;
  std::string line_, data_;
  bool has_data_ = false;
  bool after_cr_ = false;
};

}  // namespace cyllm::upstream
