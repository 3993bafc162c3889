// The x-cy-route header: which worker answers, and why it; of an error, which was asked last.
#pragma once

#include <string>

#include "inference/event.h"

namespace cyllm {

inline constexpr char kRouteHeader[] = "x-cy-route";

// What an answer's events say of its route; its first request's where there are several.
class RouteNote {
 public:
  void See(const Batch& events);
  // "worker=w1; policy=prefix_aware; prefix_hit=0.93; queue_ms=0; attempts=1; resumed=0"; empty: not known.
  std::string Text() const;
  const RouteReceipt* receipt() const { return known_ ? &route_ : nullptr; }  // null: not known
  uint32_t resumed() const { return resumed_; }

 private:
  bool known_ = false, accepted_ = false;
  std::string worker_;
  RouteReceipt route_;
  uint32_t resumed_ = 0;
};

}  // namespace cyllm
