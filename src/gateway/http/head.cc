#include "gateway/http/head.h"

#include <algorithm>
#include <charconv>

namespace cyllm {

namespace {

constexpr size_t kMaxMethod = 32;

using Error = std::unexpected<HeadError>;

Error Bad(std::string_view message, int status = 400) { return Error(HeadError{status, message}); }

bool IsTokenChar(unsigned char c) {
  return std::isalnum(c) ||
         std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
}

bool IsToken(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), IsTokenChar);
}

bool IsVisible(unsigned char c) { return c > 0x20 && c < 0x7f; }

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// The next line of `rest`, without its CRLF; false: the line ends otherwise, or has CR, LF or NUL inside.
bool TakeLine(std::string_view& rest, std::string_view& line) {
  const size_t end = rest.find('\n');
  if (end == std::string_view::npos || end == 0 || rest[end - 1] != '\r') return false;
  line = rest.substr(0, end - 1);
  rest.remove_prefix(end + 1);
  return line.find_first_of(std::string_view("\r\0", 2)) == std::string_view::npos;
}

// Path and query, whatever the form of the target.
bool ToOriginForm(RequestHead& head) {
  std::string_view& target = head.target;
  if (target.starts_with('/')) return true;
  if (target == "*") return head.method == "OPTIONS";
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (target.size() <= scheme.size() || !EqualsIgnoringCase(target.substr(0, scheme.size()), scheme))
      continue;
    const size_t path = target.find('/', scheme.size());
    target = path == std::string_view::npos ? "/" : target.substr(path);
    return true;
  }
  return false;
}

std::expected<void, HeadError> ParseRequestLine(std::string_view line, const HeadLimits& limits,
                                                RequestHead& head) {
  const size_t first = line.find(' ');
  head.method = line.substr(0, first);
  if (head.method.size() > kMaxMethod) return Bad("The method is unknown.");
  if (!IsToken(head.method) || first == std::string_view::npos) return Bad("This is not an HTTP request.");
  const size_t last = line.rfind(' ');
  if (last == first) return Bad("The request line is malformed.");
  head.target = line.substr(first + 1, last - first - 1);
  if (head.target.size() > limits.max_target_bytes) return Bad("The request's path is too long.", 414);
  if (head.target.empty() || !std::all_of(head.target.begin(), head.target.end(), IsVisible))
    return Bad("The request's path has bytes that must be escaped.");
  const std::string_view version = line.substr(last + 1);
  const bool is_version = version.size() == 8 && version.starts_with("HTTP/") &&
                          std::isdigit(static_cast<unsigned char>(version[5])) && version[6] == '.' &&
                          std::isdigit(static_cast<unsigned char>(version[7]));
  if (!is_version) return Bad("The HTTP version is malformed.");
  if (version[5] != '1') return Bad("This HTTP version is not supported; HTTP/1.1 is.");
  head.http10 = version[7] == '0';
  head.keep_alive = !head.http10;
  if (head.method == "CONNECT") return Bad("This is not a proxy.", 405);
  if (!ToOriginForm(head)) return Bad("The request's path is malformed.");
  return {};
}

std::expected<void, HeadError> ReadLength(std::string_view value, RequestHead& head) {
  if (head.content_length) return Bad("There is more than one Content-Length.");
  uint64_t length = 0;
  const auto [end, ec] = std::from_chars(value.data(), value.data() + value.size(), length);
  if (value.empty() || ec != std::errc() || end != value.data() + value.size() || value.size() > 18)
    return Bad("The Content-Length is malformed.");
  head.content_length = length;
  return {};
}

std::expected<void, HeadError> ReadEncoding(std::string_view value, RequestHead& head) {
  if (head.chunked) return Bad("There is more than one Transfer-Encoding.");
  if (head.http10) return Bad("HTTP/1.0 knows no Transfer-Encoding.");
  if (!EqualsIgnoringCase(value, "chunked"))
    return Bad("This Transfer-Encoding is not supported; chunked is.");
  head.chunked = true;
  return {};
}

void ReadConnection(std::string_view value, RequestHead& head) {
  bool close = false, keep = false;
  while (!value.empty()) {
    const size_t comma = value.find(',');
    const std::string_view option = Trim(value.substr(0, comma));
    close = close || EqualsIgnoringCase(option, "close");
    keep = keep || EqualsIgnoringCase(option, "keep-alive");
    value = comma == std::string_view::npos ? std::string_view() : value.substr(comma + 1);
  }
  if (keep && head.http10) head.keep_alive = true;
  if (close) head.keep_alive = false;
}

bool IsHost(std::string_view host) {
  return std::all_of(host.begin(), host.end(), [](unsigned char c) {
    return std::isalnum(c) ||
           std::string_view("-._~%!$&'()*+,;=:[]").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

// What the field means for reading on.
std::expected<void, HeadError> Interpret(const RequestHead::Field& field, RequestHead& head, int& hosts) {
  const auto is = [&](std::string_view name) { return EqualsIgnoringCase(field.name, name); };
  if (is("Content-Length")) return ReadLength(field.value, head);
  if (is("Transfer-Encoding")) return ReadEncoding(field.value, head);
  if (is("Connection")) ReadConnection(field.value, head);
  if (is("Host") && (++hosts > 1 || !IsHost(field.value)))
    return Bad("The Host is malformed, or there are several.");
  if (is("Content-Encoding") && !field.value.empty() && !EqualsIgnoringCase(field.value, "identity"))
    return Bad("Compressed bodies are not supported.", 415);
  if (is("Expect")) {
    if (!EqualsIgnoringCase(field.value, "100-continue")) return Bad("This expectation cannot be met.", 417);
    head.expects_continue = !head.http10;
  }
  return {};
}

bool IsValue(std::string_view value) {
  return std::all_of(value.begin(), value.end(),
                     [](unsigned char c) { return c == '\t' || (c >= 0x20 && c != 0x7f); });
}

}  // namespace

std::expected<RequestHead, HeadError> ParseHead(std::string_view text, const HeadLimits& limits) {
  RequestHead head;
  std::string_view line;
  if (!TakeLine(text, line)) return Bad("The request line is malformed.");
  if (auto parsed = ParseRequestLine(line, limits, head); !parsed) return Error(parsed.error());
  int hosts = 0;
  while (true) {
    if (!TakeLine(text, line)) return Bad("A header line is malformed.");
    if (line.empty()) break;
    if (head.fields.size() == limits.max_fields) return Bad("There are too many header lines.", 431);
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return Bad("A header line has no colon.");
    const RequestHead::Field field{line.substr(0, colon), Trim(line.substr(colon + 1))};
    if (!IsToken(field.name)) return Bad("The name of a header is malformed.");
    if (!IsValue(field.value)) return Bad("The value of a header has control characters.");
    head.fields.push_back(field);
    if (auto known = Interpret(field, head, hosts); !known) return Error(known.error());
  }
  if (hosts == 0 && !head.http10) return Bad("The Host is missing.");
  if (head.chunked && head.content_length)
    return Bad("Content-Length and Transfer-Encoding exclude each other.");
  return head;
}

size_t FindHeadEnd(std::string_view text, size_t from) {
  for (size_t at = text.find('\n', from > 3 ? from - 3 : 0); at != std::string_view::npos;
       at = text.find('\n', at + 1)) {
    if (at + 1 < text.size() && text[at + 1] == '\n') return at + 2;
    if (at + 2 < text.size() && text[at + 1] == '\r' && text[at + 2] == '\n') return at + 3;
  }
  return 0;
}

bool LooksLikeHead(std::string_view text) {
  const std::string_view method = text.substr(0, text.find(' '));
  return method.size() <= kMaxMethod && (method.empty() ? text.empty() : IsToken(method));
}

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(),
                    [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

}  // namespace cyllm
