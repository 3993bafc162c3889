// A request as it came and a response as it goes.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cyllm {

struct HttpRequest {
  std::string method;  // "GET"
  std::string path;    // without query; as sent, not decoded
  std::string query;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::string id;  // X-Request-Id of the client where it is short printable ASCII, else made here

  // Of the first header of that name, whatever its case; empty when there is none.
  std::string_view Header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
};

// "message\n" as plain text.
HttpResponse PlainError(int status, std::string_view message, std::string_view code);

std::string_view ReasonPhrase(int status);

}  // namespace cyllm
