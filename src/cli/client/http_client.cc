#include "cli/client/http_client.h"

#include <curl/curl.h>

#include <memory>

namespace cyllm {
namespace {

struct Transfer {
  CURL* curl = nullptr;
  const HttpSink* sink = nullptr;
  const std::function<bool()>* stop = nullptr;
  bool stopped = false;
};

int StatusOf(CURL* curl) {
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  return static_cast<int>(status);
}

size_t OnBody(char* data, size_t size, size_t count, void* self) {
  auto& transfer = *static_cast<Transfer*>(self);
  if ((*transfer.sink)(StatusOf(transfer.curl), {data, size * count})) return size * count;
  transfer.stopped = true;
  return 0;
}

int OnProgress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  auto& transfer = *static_cast<Transfer*>(self);
  transfer.stopped |= *transfer.stop && (*transfer.stop)();
  return transfer.stopped ? 1 : 0;
}

// The option takes the place of the environment's list.
std::string NoProxy() {
  const std::string own = "127.0.0.1,localhost,::1";
  for (const char* name : {"no_proxy", "NO_PROXY"})
    if (const char* list = getenv(name); list && *list)
      return std::string(list) == "*" ? "*" : own + "," + list;
  return own;
}

}  // namespace

Result<int> Fetch(const HttpCall& call, const HttpSink& sink, const std::function<bool()>& stop) {
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), curl_easy_cleanup);
  curl_slist* list = nullptr;
  if (!call.json.empty()) list = curl_slist_append(list, "Content-Type: application/json");
  if (!call.bearer.empty()) list = curl_slist_append(list, ("Authorization: Bearer " + call.bearer).c_str());
  const std::unique_ptr<curl_slist, void (*)(curl_slist*)> headers(list, curl_slist_free_all);

  Transfer transfer{curl.get(), &sink, &stop};
  char error[CURL_ERROR_SIZE] = "";
  CURL* c = curl.get();
  curl_easy_setopt(c, CURLOPT_URL, call.url.c_str());
  curl_easy_setopt(c, CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS);
  curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(c, CURLOPT_ERRORBUFFER, error);
  curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(c, CURLOPT_NOPROXY, NoProxy().c_str());
  curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, 10'000L);
  curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, static_cast<long>(call.timeout.count()));
  curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, OnBody);
  curl_easy_setopt(c, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, OnProgress);
  curl_easy_setopt(c, CURLOPT_XFERINFODATA, &transfer);
  if (!call.json.empty()) {
    curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(call.json.size()));
    curl_easy_setopt(c, CURLOPT_POSTFIELDS, call.json.c_str());
  }
  if (!call.method.empty()) curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, call.method.c_str());
  const CURLcode code = curl_easy_perform(c);
  if (transfer.stopped) return Err(MakeStatus(Code::kCancelled, "stopped"));
  if (code != CURLE_OK) {
    return Err(Unavailable(call.url + ": " + (error[0] != '\0' ? error : curl_easy_strerror(code))));
  }
  return StatusOf(c);
}

}  // namespace cyllm
