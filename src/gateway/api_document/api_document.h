// The OpenAPI document of what the gateway serves, and a page to read it; both without a network beyond it.
#pragma once

#include <string_view>

namespace cyllm {

extern const std::string_view kOpenApiJson;  // openapi.json
extern const std::string_view kApiPage;      // page.html

}  // namespace cyllm
