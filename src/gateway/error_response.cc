#include "gateway/error_response.h"

#include <fmt/format.h>

namespace cyllm {

HttpResponse ToResponse(dialect::ApiError error, const dialect::Dialect& dialect,
                        std::string_view request_id) {
  HttpResponse response;
  response.body = dialect.error_body(error, request_id);
  response.status = error.http;
  if (error.retry_after_s > 0)
    response.headers.emplace_back("Retry-After", fmt::format("{:.0f}", error.retry_after_s));
  if (!error.should_retry && error.http >= 500) response.headers.emplace_back("x-should-retry", "false");
  if (error.http == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

}  // namespace cyllm
