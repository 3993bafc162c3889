#include "gateway/routes.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <set>
#include <string>

#include "gateway/api_document/api_document.h"

namespace cyllm {
namespace {

using Endpoints = std::set<std::pair<std::string, std::string>>;  // path, method

// OPTIONS and HEAD are everywhere, and not described.
std::string Method(const Route& route) {
  return route.methods.find("POST") != std::string_view::npos ? "post" : "get";
}

Endpoints Described() {
  Endpoints found;
  const auto paths = boost::json::parse(kOpenApiJson).at("paths").as_object();
  for (const auto& [path, methods] : paths)
    for (const auto& [method, operation] : methods.as_object()) found.emplace(path, method);
  return found;
}

TEST(RoutesTest, TheApiDocumentDescribesThemAndNothingElse) {
  Endpoints served;
  for (const Route& route : Routes()) served.emplace(route.path, Method(route));
  for (const std::string page : {"/", "/docs", "/openapi.json"}) EXPECT_EQ(served.erase({page, "get"}), 1u);
  Endpoints expected;
  for (const auto& [path, method] : served)
    if (!served.contains({"/v1" + path, method})) expected.emplace(path, method);
  EXPECT_EQ(expected, Described());
}

}  // namespace
}  // namespace cyllm
