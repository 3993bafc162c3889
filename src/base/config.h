// Settings of a process: flag > environment > file > default. Every setting has one key ("gateway.listen"),
// which is its path in the TOML file; its flag, its environment variables in order of precedence (an empty
// variable counts as unset) and its default are declared beside it, once.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace cyllm {

struct SettingInfo {
  std::string key;               // "gateway.listen"
  std::string flag;              // "--listen"; empty: none
  std::vector<std::string> env;  // first set and non-empty wins
  std::string help;
  std::string metavar;  // "HOST:PORT"
  bool secret = false;  // --print-config shows "***"
};

class Settings {
 public:
  explicit Settings(std::string program, std::string description);
  ~Settings();

  // Declares a setting; `*target` holds its default and receives its value. `parse` may refuse (message says
  // what is allowed). Lists are comma-separated in flags and variables, arrays in TOML.
  void Add(SettingInfo info, std::string* target);
  void Add(SettingInfo info, int64_t* target, int64_t min, int64_t max);
  void Add(SettingInfo info, double* target, double min, double max);
  void Add(SettingInfo info, bool* target);
  void Add(SettingInfo info, std::vector<std::string>* target);
  // Accepted from files of the contract and ignored, with a warning (known-but-unused keys).
  void AddIgnored(std::string key, std::string why);

  using Env = std::function<std::optional<std::string>(const std::string&)>;
  enum class Action { kRun, kExitOk };  // --help, --version, --check-config, --print-config: done

  // Reads flags, environment and the file of `--config` (TOML, or the contract's JSON: by extension .json;
  // keys of a JSON file are `json_keys`: file key -> setting key). Unknown flags and keys are errors that
  // name file, key and the known keys.
  Result<Action> Load(const std::vector<std::string>& args, const Env& env,
                      const std::map<std::string, std::string>& json_keys = {},
                      const std::vector<std::string>& config_env = {});

  std::string Print() const;  // as TOML, with where each value came from as a comment
  std::vector<SettingInfo> All() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The process's environment.
std::optional<std::string> ProcessEnv(const std::string& name);

}  // namespace cyllm
