// What commands do before and after their work: settings, signals, readiness lines, paths.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/config.h"
#include "cli/command.h"
#include "cli/settings/process.h"
#include "cli/settings/worker.h"
#include "inference/tls.h"
#include "worker/worker.h"

namespace cyllm {

// Loads the settings from flags, environment and file. A value: the command is over (--help, an error that
// was told).
std::optional<int> LoadSettings(Settings& settings, const Args& args);

// "cy-llm: sentence" on stderr; returns `exit_status`.
int Fail(const Status& status, int exit_status = kExitFailed);

// A server process. Made before any thread starts: from then on, SIGTERM, SIGINT and SIGHUP reach WaitForStop
// only, SIGPIPE is ignored, and as many files may be open as the system lets us.
class ServerProcess {
 public:
  ServerProcess();

  // Sets up the log and tells the settings' warnings.
  void BeginLog(std::string_view role, const ProcessSettings& process, const Settings& settings);

  // Readiness line on stdout: "listening gateway http://127.0.0.1:41234".
  void SayListening(std::string_view what, std::string_view address);
  // The same for each of gRPC's listeners; `ports` are those of the TCP ones, in order.
  void SayListening(std::string_view what, const std::vector<std::string>& listen,
                    const std::vector<int>& ports);

  // Asks `started` several times a second until it knows, or a stop signal waits. False: the start failed.
  bool AwaitStart(const std::function<std::optional<bool>()>& started);

  // Blocks until SIGTERM or SIGINT; returns when what runs must be done. A second signal ends the process at
  // once; so do 10 s past that time and `grace`, for an engine that hangs cannot be waited for. Meanwhile
  // each SIGHUP calls `reload`.
  TimePoint WaitForStop(const ProcessSettings& process, const std::function<void()>& reload = {},
                        Millis grace = Millis(0));
};

GrpcTls MakeTls(const ProcessSettings& process);

// `configured`, or host and process id.
std::string ProcessName(const std::string& configured);

// `configured`, or one per `cores_each` cores, at most 8: compute threads suffer from busy neighbours.
size_t IoThreads(const ProcessSettings& process, unsigned cores_each);

std::string EngineDir(const std::string& configured);   // or `engines` beside the binary
std::string ModelCache(const std::string& configured);  // or cy-llm/models in the user's cache

WorkerOptions MakeWorkerOptions(const ModelSettings& models, const std::string& name);

// Has --check-config look at the model registry too. (Serving does so anyway, when it makes the worker.)
void CheckModelsToo(Settings& settings, const Args& args, const ModelSettings& models);

}  // namespace cyllm
