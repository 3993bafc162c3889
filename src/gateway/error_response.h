// Errors as responses: the body in the dialect's words, and the headers that clients' retries look at.
#pragma once

#include "gateway/dialects/common/dialect.h"
#include "gateway/http/message.h"

namespace cyllm {

HttpResponse ToResponse(dialect::ApiError error, const dialect::Dialect& dialect,
                        std::string_view request_id);

}  // namespace cyllm
