#include "gateway/status_pages.h"

#include <fmt/format.h>

#include "base/metrics.h"
#include "base/utf8.h"

namespace cyllm {

HttpResponse HealthPage(const Asked&) { return {200, R"({"status":"ok"})", "application/json", {}}; }

HttpResponse ReadyPage(const Asked& asked) {
  if (asked.snapshot.ready && !asked.draining) return {200, R"({"status":"ready"})", "application/json", {}};
  std::vector<std::string> reasons = asked.snapshot.not_ready_reasons;
  if (asked.draining) reasons = {"draining"};
  if (reasons.empty()) reasons = {"no worker is available"};
  std::string body = R"({"status":"not ready","reasons":[)";
  for (size_t i = 0; i < reasons.size(); ++i)
    body += fmt::format(R"({}"{}")", i ? "," : "", JsonEscape(reasons[i]));
  return {503, body + "]}", "application/json", {{"Retry-After", "1"}}};
}

HttpResponse MetricsPage(const Asked&) {
  return {200, RenderMetrics(), "text/plain; version=0.0.4; charset=utf-8", {}};
}

}  // namespace cyllm
