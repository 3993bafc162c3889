// The table of endpoints: which path is served how.
#pragma once

#include <span>
#include <string_view>

#include "gateway/dialects/common/dialect.h"
#include "gateway/http/message.h"
#include "inference/service.h"

namespace cyllm {

// What an endpoint without inference answers from.
struct Asked {
  const HttpRequest& request;
  std::string_view rest;  // of the path, decoded, where the route's ends with "{id}"
  const Snapshot& snapshot;
  bool draining;
};

enum class Access : uint8_t { kOpen, kModels, kToken };  // kModels: as GatewayOptions::models_need_token says

struct Route {
  std::string_view path;     // exact; "{id}" at its end: any rest, slashes too
  std::string_view methods;  // as in `Allow`
  const dialect::Dialect* dialect;
  Access access;
  dialect::ParseFn parse;  // inference; or null, and:
  HttpResponse (*reply)(const Asked&);
  bool describes = true;  // reply looks at the snapshot
};

std::span<const Route> Routes();

// Null: there is nothing at this path. `rest`: what stands for "{id}", as sent.
const Route* FindRoute(std::string_view path, std::string_view& rest);

// In whose words a path that does not exist is refused.
const dialect::Dialect& DialectOf(std::string_view path);

}  // namespace cyllm
