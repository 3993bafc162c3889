// Cuts a server-sent event stream into the data of its events.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace cyllm {

class SseReader {
 public:
  explicit SseReader(std::function<void(std::string_view data)> on_event) : on_event_(std::move(on_event)) {}

  // Any piece of the stream, in order. Comments and other fields are passed over.
  void Feed(std::string_view piece);

 private:
  void Line(std::string_view line);

  std::function<void(std::string_view)> on_event_;
  std::string line_, data_;
  bool has_data_ = false;
};

}  // namespace cyllm
