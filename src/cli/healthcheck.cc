// cy-llm healthcheck: for HEALTHCHECK lines of containers that have no curl.
#include "base/config.h"
#include "cli/client/http_client.h"
#include "cli/startup.h"

namespace cyllm {

int RunHealthcheck(const Args& args) {
  std::string url;
  Settings settings("cy-llm healthcheck", "Asks a URL; the exit status is 0 when the answer is 200.");
  settings.AddPositional("URL", "for example http://127.0.0.1:8000/ready", &url, true);
  if (const auto over = LoadSettings(settings, args)) return *over;
  constexpr Millis kPatience{3'000};
  const auto status = Fetch({.url = url, .bearer = "", .json = "", .timeout = kPatience},
                            [](int, std::string_view) { return true; });
  if (!status) return Fail(status.error());
  if (*status != 200) return Fail(Unavailable(url + ": status " + std::to_string(*status)));
  return kExitOk;
}

}  // namespace cyllm
