#include "worker/models/download.h"

#include <curl/curl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "base/log.h"
#include "worker/models/sha256.h"

namespace cyllm {

namespace fs = std::filesystem;

namespace {

struct Transfer {
  FILE* file = nullptr;
  const FetchCallback* progress = nullptr;
  uint64_t offset = 0;  // asked for
  bool stopped = false;
  std::string linked_etag;
  std::string content_range;
};

// The value of the header `name` (lower case, with its colon) if `line` is that header.
std::optional<std::string> ValueOf(std::string_view line, std::string_view name) {
  if (line.size() < name.size()) return std::nullopt;
  for (size_t i = 0; i < name.size(); ++i)
    if (std::tolower(static_cast<unsigned char>(line[i])) != name[i]) return std::nullopt;
  return std::string(line.substr(name.size()));
}

size_t OnHeader(char* data, size_t, size_t n, void* ctx) {
  auto& t = *static_cast<Transfer*>(ctx);
  const std::string_view line(data, n);
  if (const auto etag = ValueOf(line, "x-linked-etag:")) {
    std::string hex;
    for (const unsigned char c : *etag)
      if (std::isxdigit(c)) hex += static_cast<char>(std::tolower(c));
    if (hex.size() == 64) t.linked_etag = hex;
  }
  if (const auto range = ValueOf(line, "content-range:")) t.content_range = *range;
  return n;
}

size_t OnData(char* data, size_t, size_t n, void* ctx) {
  return std::fwrite(data, 1, n, static_cast<Transfer*>(ctx)->file);
}

int OnProgress(void* ctx, curl_off_t total, curl_off_t now, curl_off_t, curl_off_t) {
  auto& t = *static_cast<Transfer*>(ctx);
  FetchProgress p;
  p.done = t.offset + static_cast<uint64_t>(now);
  p.total = total > 0 ? t.offset + static_cast<uint64_t>(total) : 0;
  t.stopped = t.stopped || (*t.progress && !(*t.progress)(p));
  return t.stopped ? 1 : 0;
}

enum class Outcome { kDone, kAgain, kFailed };

struct Attempt {
  Outcome outcome = Outcome::kFailed;
  Status status;
};

Attempt Try(const DownloadOptions& options, const std::string& part, const FetchCallback& progress,
            std::string* linked_etag) {
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(), curl_easy_cleanup);
  Transfer t;
  t.progress = &progress;
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(part.c_str(), "ab"), std::fclose);
  if (!file || !curl)
    return {Outcome::kFailed, MakeStatus(Code::kFailedPrecondition, part + ": " + std::strerror(errno))};
  t.file = file.get();
  std::error_code ec;
  t.offset = fs::file_size(part, ec);

  char error[CURL_ERROR_SIZE] = "";
  CURL* c = curl.get();
  curl_easy_setopt(c, CURLOPT_URL, options.url.c_str());
  curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR,
                   options.url.starts_with("https:") ? "https" : "http,https");
  curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(c, CURLOPT_MAXREDIRS, 10L);
  curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 30L);
  curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, 60L);
  curl_easy_setopt(c, CURLOPT_USERAGENT, "cy-llm");
  curl_easy_setopt(c, CURLOPT_ERRORBUFFER, error);
  curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, OnHeader);
  curl_easy_setopt(c, CURLOPT_HEADERDATA, &t);
  curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, OnData);
  curl_easy_setopt(c, CURLOPT_WRITEDATA, &t);
  curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, OnProgress);
  curl_easy_setopt(c, CURLOPT_XFERINFODATA, &t);
  curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
  if (t.offset > 0) curl_easy_setopt(c, CURLOPT_RESUME_FROM_LARGE, static_cast<curl_off_t>(t.offset));
  if (!options.token.empty()) {
    curl_easy_setopt(c, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
    curl_easy_setopt(c, CURLOPT_XOAUTH2_BEARER, options.token.c_str());
  }
  const CURLcode code = curl_easy_perform(c);
  long http = 0;
  curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &http);
  const bool flushed = std::fflush(file.get()) == 0;
  if (!t.linked_etag.empty()) *linked_etag = t.linked_etag;

  if (t.stopped) return {Outcome::kFailed, MakeStatus(Code::kCancelled, "stopped")};
  if (code == CURLE_OK && flushed) return {Outcome::kDone, {}};
  if (code == CURLE_WRITE_ERROR || !flushed)
    return {Outcome::kFailed,
            MakeStatus(Code::kFailedPrecondition, part + " cannot be written: is the disk full?")};
  const bool whole = t.content_range.ends_with("*/" + std::to_string(t.offset) + "\r\n");  // "bytes */SIZE"
  if (http == 416 && t.offset > 0 && whole) return {Outcome::kDone, {}};
  if ((http == 416 || code == CURLE_RANGE_ERROR) && t.offset > 0) {
    // The server gives no parts, or has another file by now.
    fs::resize_file(part, 0, ec);
    return {Outcome::kAgain,
            MakeStatus(Code::kUnavailable, options.url + ": must be fetched from the start")};
  }
  std::string why = options.url + ": " +
                    (http >= 400 ? "HTTP " + std::to_string(http)
                     : error[0]  ? error
                                 : curl_easy_strerror(code));
  if (http == 401 || http == 403) {
    why += options.token.empty() ? " (a gated model? set HF_TOKEN)" : " (the token gives no access)";
    return {Outcome::kFailed, MakeStatus(Code::kPermissionDenied, why)};
  }
  if (http == 404 || http == 410) return {Outcome::kFailed, MakeStatus(Code::kNotFound, why)};
  const bool again = code != CURLE_URL_MALFORMAT && code != CURLE_UNSUPPORTED_PROTOCOL &&
                     code != CURLE_TOO_MANY_REDIRECTS &&
                     (http < 400 || http >= 500 || http == 408 || http == 429);
  return {again ? Outcome::kAgain : Outcome::kFailed, MakeStatus(Code::kUnavailable, why)};
}

}  // namespace

Status Download(const DownloadOptions& options, const std::string& path, const FetchCallback& progress) {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  const std::string part = path + ".part";
  std::string expected = options.sha256;
  std::string linked_etag;
  uint64_t most = 0;  // bytes that were here after any try
  for (int left = options.attempts; left > 0;) {
    const Attempt attempt = Try(options, part, progress, &linked_etag);
    if (attempt.outcome == Outcome::kDone) break;
    if (attempt.outcome == Outcome::kFailed) return attempt.status;
    std::error_code ec;
    const uint64_t size = fs::file_size(part, ec);
    left = size > most ? options.attempts : left - 1;
    most = std::max(most, size);
    if (left == 0) return attempt.status;
    Log()->warn("{}; trying again", attempt.status.message);
    std::this_thread::sleep_for(options.backoff * (1 << std::clamp(options.attempts - left - 1, 0, 3)));
  }
  if (expected.empty()) expected = linked_etag;
  if (!expected.empty()) {
    const Result<std::string> actual = Sha256OfFile(part);
    if (!actual) return actual.error();
    if (*actual != expected) {
      std::error_code ec;
      fs::remove(part, ec);
      return MakeStatus(Code::kFailedPrecondition, options.url + ": SHA-256 is " + *actual + ", expected " +
                                                       expected + "; the file was deleted");
    }
  }
  std::error_code ec;
  fs::rename(part, path, ec);
  return ec ? MakeStatus(Code::kFailedPrecondition, path + ": " + ec.message()) : Status::Ok();
}

}  // namespace cyllm
