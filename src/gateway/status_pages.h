// What monitors ask: is it alive, is it ready, what does it count.
#pragma once

#include "gateway/routes.h"

namespace cyllm {

HttpResponse HealthPage(const Asked& asked);   // alive: always 200
HttpResponse ReadyPage(const Asked& asked);    // 200 when a request could be answered now, else 503 and why
HttpResponse MetricsPage(const Asked& asked);  // Prometheus' text form

}  // namespace cyllm
