#include "cli/startup.h"

#include <fmt/format.h>
#include <pwd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/log.h"
#include "cli/settings/address.h"

namespace cyllm {
namespace {

sigset_t StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

sigset_t AllSignals() {
  sigset_t set = StopSignals();
  sigaddset(&set, SIGHUP);
  return set;
}

int AwaitSignal(const sigset_t& set) {
  int number = 0;
  while (sigwait(&set, &number) != 0) {
  }
  return number;
}

constexpr std::chrono::seconds kLetGo{10};  // from the end of a drain until everything has let go

[[noreturn]] void EndAnyhow(TimePoint at) {
  const sigset_t set = StopSignals();
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::seconds>(at - Clock::now()).count();
    const timespec wait{std::max<time_t>(left, 0), 0};
    if (const int number = sigtimedwait(&set, nullptr, &wait); number > 0) std::_Exit(128 + number);
    if (errno == EAGAIN) break;
  }
  Log()->error("something does not end, an engine that hangs perhaps: the process ends without it");
  Log()->flush();
  std::_Exit(kExitFailed);
}

}  // namespace

std::optional<int> LoadSettings(Settings& settings, const Args& args) {
  const auto action = settings.Load(args, ProcessEnv);
  if (!action) return Fail(action.error(), kExitUsage);
  if (*action == Settings::Action::kRun) return std::nullopt;
  std::fputs(settings.output().c_str(), stdout);
  return std::fflush(stdout) == 0 ? kExitOk : kExitFailed;
}

int Fail(const Status& status, int exit_status) {
  fmt::print(stderr, "cy-llm: {}\n", status.message);
  return exit_status;
}

ServerProcess::ServerProcess() {
  const sigset_t set = AllSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
    files.rlim_cur = std::min<rlim_t>(files.rlim_max, 1 << 20);
    setrlimit(RLIMIT_NOFILE, &files);
  }
}

void ServerProcess::BeginLog(std::string_view role, const ProcessSettings& process,
                             const Settings& settings) {
  InitLogging(role, process.log_level, process.log_format);
  for (const std::string& warning : settings.warnings()) Log()->warn("{}", warning);
}

void ServerProcess::SayListening(std::string_view what, std::string_view address) {
  fmt::print(stdout, "listening {} {}\n", what, address);
  std::fflush(stdout);
}

void ServerProcess::SayListening(std::string_view what, const std::vector<std::string>& listen,
                                 const std::vector<int>& ports) {
  size_t tcp = 0;
  for (const std::string& text : listen) {
    auto address = ParseAddress(text);
    if (address && !address->is_unix() && tcp < ports.size()) address->port = ports[tcp++];
    SayListening(what, address ? address->ToString() : text);
  }
}

bool ServerProcess::AwaitStart(const std::function<std::optional<bool>()>& started) {
  while (true) {
    if (const auto known = started()) return *known;
    sigset_t pending;
    sigpending(&pending);
    if (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1) return true;
    std::this_thread::sleep_for(Millis(50));
  }
}

TimePoint ServerProcess::WaitForStop(const ProcessSettings& process, const std::function<void()>& reload,
                                     Millis grace) {
  int number;
  while ((number = AwaitSignal(AllSignals())) == SIGHUP) {
    if (reload) {
      reload();
    } else {
      Log()->info("SIGHUP: nothing here is read again; restart instead");
    }
  }
  Log()->info("{}: finishing what runs, for at most {} s", number == SIGTERM ? "SIGTERM" : "SIGINT",
              process.drain_timeout);
  const TimePoint until = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                             std::chrono::duration<double>(process.drain_timeout));
  std::thread(EndAnyhow, until + grace + kLetGo).detach();
  return until;
}

GrpcTls MakeTls(const ProcessSettings& process) {
  return {process.tls_cert, process.tls_key, process.tls_ca};
}

std::string ProcessName(const std::string& configured) {
  if (!configured.empty()) return configured;
  char host[256] = "host";
  gethostname(host, sizeof(host) - 1);
  return fmt::format("{}-{}", host, getpid());
}

size_t IoThreads(const ProcessSettings& process, unsigned cores_each) {
  if (process.io_threads > 0) return static_cast<size_t>(process.io_threads);
  return std::clamp(std::thread::hardware_concurrency() / cores_each, 1u, 8u);
}

std::string EngineDir(const std::string& configured) {
  if (!configured.empty()) return configured;
  std::error_code error;
  return (std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / "engines").string();
}

std::string ModelCache(const std::string& configured) {
  if (!configured.empty()) return configured;
  std::filesystem::path cache = ProcessEnv("XDG_CACHE_HOME").value_or("");
  if (!cache.is_absolute()) {
    std::string home = ProcessEnv("HOME").value_or("");
    if (const passwd* user = home.empty() ? getpwuid(geteuid()) : nullptr) home = user->pw_dir;
    cache = std::filesystem::path(home) / ".cache";
  }
  return (cache / "cy-llm" / "models").string();
}

WorkerOptions MakeWorkerOptions(const ModelSettings& models, const std::string& name) {
  WorkerOptions options;
  options.name = name;
  options.engine_dir = EngineDir(models.engine_dir);
  options.registry_json = models.registry_json;
  options.registry_path = models.registry_path;
  options.default_model = models.model;
  options.default_engine = models.engine;
  options.model_cache = ModelCache(models.model_cache);
  options.threads = static_cast<uint32_t>(models.threads);
  options.max_prompt_chars = static_cast<uint32_t>(models.max_prompt_chars);
  options.preload = models.preload;
  options.stall.late = std::chrono::seconds(models.engine_stall_s);
  options.residency.budget_bytes = static_cast<uint64_t>(models.memory_budget_mib) << 20;
  options.residency.min_residency = std::chrono::seconds(models.min_residency_s);
  options.residency.reloads_per_minute = static_cast<uint32_t>(models.reloads_per_minute);
  return options;
}

void CheckModelsToo(Settings& settings, const Args& args, const ModelSettings& models) {
  if (std::ranges::find(args, "--check-config") == args.end()) return;
  settings.AddCheck([&models] {
    WorkerOptions options = MakeWorkerOptions(models, "");
    options.preload = false;
    const auto worker = Worker::Make(std::move(options));
    return worker ? Status::Ok() : worker.error();
  });
}

}  // namespace cyllm
