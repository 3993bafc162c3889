// cy-llm pull: fetches a model into the cache and says where it lies.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "base/log.h"
#include "cli/settings/tools.h"
#include "cli/startup.h"
#include "worker/models/resolver.h"

namespace cyllm {
namespace {

// On stderr: a bar that moves on a terminal, elsewhere a line every tenth.
class ProgressBar {
 public:
  void Show(const FetchProgress& progress) {
    constexpr double kMiB = 1 << 20;
    const double done = static_cast<double>(progress.done) / kMiB;
    if (progress.total == 0) {
      if (terminal_) Draw(fmt::format("{:.1f} MiB", done));
      return;
    }
    const auto percent = static_cast<int>(100 * progress.done / progress.total);
    if (percent == percent_) return;
    const bool tenth = percent / 10 != percent_ / 10;
    percent_ = percent;
    const std::string text =
        fmt::format("{:3}% of {:.1f} MiB", percent, static_cast<double>(progress.total) / kMiB);
    if (terminal_) {
      const auto filled = static_cast<size_t>(percent) * kWidth / 100;
      Draw(fmt::format("[{:<{}}] {}", std::string(filled, '#'), kWidth, text));
    } else if (tenth) {
      fmt::print(stderr, "{}\n", text);
    }
  }
  void End() {
    if (drawn_) std::fputc('\n', stderr);
  }

 private:
  static constexpr size_t kWidth = 40;
  void Draw(const std::string& text) {
    fmt::print(stderr, "\r\033[K{}", text);
    drawn_ = true;
  }

  const bool terminal_ = isatty(STDERR_FILENO) == 1;
  int percent_ = -1;
  bool drawn_ = false;
};

}  // namespace

int RunPull(const Args& args) {
  PullSettings values;
  Settings settings("cy-llm pull", "Fetches a model into the cache, checks it, and prints its path.");
  values.Declare(settings);
  if (const auto over = LoadSettings(settings, args)) return *over;
  InitLogging("pull", "warn", "text");
  ProgressBar bar;
  const auto path =
      ResolveModel(values.source, ModelCache(values.model_cache), [&](const FetchProgress& progress) {
        bar.Show(progress);
        return true;
      });
  bar.End();
  if (!path)
    return Fail(path.error(), path.error().code == Code::kInvalidArgument ? kExitUsage : kExitFailed);
  fmt::print("{}\n", *path);
  return kExitOk;
}

}  // namespace cyllm
