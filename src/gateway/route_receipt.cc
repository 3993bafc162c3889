#include "gateway/route_receipt.h"

#include <fmt/format.h>

#include <algorithm>

namespace cyllm {
namespace {

// What a peer says goes into a header: visible ASCII, without what separates, and not long.
std::string Plain(std::string_view text) {
  std::string plain(text.substr(0, 128));
  std::ranges::replace_if(plain, [](unsigned char c) { return c <= 0x20 || c >= 0x7f || c == ';'; }, '_');
  return plain.empty() ? "-" : plain;
}

}  // namespace

void RouteNote::See(const Batch& events) {
  for (const Event& event : events) {
    if (const auto* accepted = std::get_if<Accepted>(&event); accepted && !accepted_) {
      known_ = accepted_ = true;
      worker_ = accepted->worker;
      route_ = accepted->route;
    } else if (const auto* tried = std::get_if<Tried>(&event); tried && !accepted_) {
      known_ = true;
      worker_ = tried->worker;
      route_ = tried->route;
    } else if (const auto* finished = std::get_if<Finished>(&event)) {
      resumed_ = std::max(resumed_, finished->resumed);
    }
  }
}

std::string RouteNote::Text() const {
  if (!known_) return {};
  return fmt::format("worker={}; policy={}; prefix_hit={:.2f}; queue_ms={:.0f}; attempts={}; resumed={}",
                     Plain(worker_), Plain(route_.policy), route_.prefix_hit, route_.queue_ms,
                     route_.attempts, resumed_);
}

}  // namespace cyllm
