#include "upstream/openai/sse.h"

#include <utility>

namespace cyllm::upstream {

bool SseParser::Feed(std::string_view piece, std::vector<std::string>& events) {
  while (!piece.empty()) {
    if (std::exchange(after_cr_, false) && piece.front() == '\n') {  // the line ended with its CR
      piece.remove_prefix(1);
      continue;
    }
    const size_t end = piece.find_first_of("\r\n");
    const std::string_view part = piece.substr(0, end);
    if (line_.size() + part.size() > max_) return false;
    if (end == std::string_view::npos) {
      line_ += part;
      return true;
    }
    after_cr_ = piece[end] == '\r';
    piece.remove_prefix(end + 1);
    if (line_.empty()) {
      if (!Line(part, events)) return false;
    } else {
      line_ += part;
      if (!Line(line_, events)) return false;
      line_.clear();
    }
  }
  return true;
}

bool SseParser::Line(std::string_view line, std::vector<std::string>& events) {
  if (line.empty()) {
    if (has_data_) events.push_back(std::exchange(data_, {}));
    has_data_ = false;
    return true;
  }
  constexpr std::string_view kData = "data";
  if (!line.starts_with(kData)) return true;
  line.remove_prefix(kData.size());
  if (!line.empty()) {
    if (line.front() != ':') return true;  // another field whose name begins so
    line.remove_prefix(1);
    if (line.starts_with(' ')) line.remove_prefix(1);
  }
  if (data_.size() + line.size() + 1 > max_) return false;
  if (has_data_) data_ += '\n';
  data_ += line;
  has_data_ = true;
  return true;
}

}  // namespace cyllm::upstream
