// Settings of a process: flag > environment > file > default. Every setting has one key ("gateway.listen"),
// which is its path in the TOML file; its flag, its environment variables and its default are declared beside
// it, once. What nobody declared (flag, key) is an error. Not thread-safe: used once, at start.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace cyllm {

// A variable that may give a setting its value. `prefix` is put before the value (of a list: before each
// element) that does not begin with it: COORDINATOR_UDS_PATH=/run/x.sock means "unix:/run/x.sock".
struct EnvVar {
  std::string name;
  std::string prefix;
  EnvVar(const char* n, const char* p = "") : name(n), prefix(p) {}
};

// A further condition on a text or on each element of a list.
struct SettingCheck {
  std::function<bool(const std::string&)> ok;
  std::string allowed;  // "host:port or unix:/path", follows "must be "
};

struct SettingInfo {
  std::string key = {};                   // "gateway.listen"
  std::string flag = {};                  // "--listen"; empty: none
  std::vector<EnvVar> env = {};           // the first that is set and not blank wins
  std::string help = {};                  // one sentence, no full stop
  std::string metavar = {};               // "HOST:PORT"
  bool secret = false;                    // never shown: neither by --print-config nor in errors
  std::vector<std::string> choices = {};  // texts and lists: the only values allowed
  SettingCheck check = {};
};

class SettingTarget;  // config_value.h

class Settings {
 public:
  // `command` as typed: "cy-llm gateway".
  Settings(std::string command, std::string description);
  ~Settings();
  Settings(const Settings&) = delete;
  Settings& operator=(const Settings&) = delete;

  // Declares a setting; `*target` holds its default, receives its value, and outlives the Settings. Lists are
  // comma-separated in flags and variables (a repeated flag adds to them), arrays in files. Ranges are
  // inclusive.
  void Add(SettingInfo info, std::string* target);
  void Add(SettingInfo info, int64_t* target, int64_t min, int64_t max);
  void Add(SettingInfo info, double* target, double min, double max);
  void Add(SettingInfo info, bool* target);
  void Add(SettingInfo info, std::vector<std::string>* target);
  // A word without dashes, as in `cy-llm pull SOURCE`.
  void AddPositional(std::string name, std::string help, std::string* target, bool required);

  // Names that other releases or the contract know and this program does without: accepted, with a warning.
  void IgnoreKey(std::string key, std::string why);
  void IgnoreVariable(std::string name, std::string why);
  void IgnoreFlag(std::string flag, bool takes_value, std::string why);
  // A variable that promises what this program cannot keep: set and not blank, it is an error.
  void RefuseVariable(std::string name, std::string why);

  // Variables that name the configuration file when --config is absent. None: the program reads no file at
  // all.
  void ConfigFileFrom(std::vector<std::string> variables);
  // Top-level keys of the contract's JSON files -> setting keys ("api_token" -> "gateway.api_token").
  void JsonKeys(std::map<std::string, std::string> file_key_to_key);
  // A condition across settings, looked at when all have their values. INVALID_ARGUMENT with a sentence.
  void AddCheck(std::function<Status()> check);

  using Env = std::function<std::optional<std::string>(const std::string&)>;
  enum class Action { kRun, kExitOk };  // --help, --check-config, --print-config: done, show output()

  // Gives every setting its value. INVALID_ARGUMENT naming flag, variable or file and key, and what is
  // allowed. A file ending in .json is JSON, any other TOML.
  Result<Action> Load(const std::vector<std::string>& args, const Env& env);

  const std::string& output() const;                 // for stdout, after kExitOk
  const std::vector<std::string>& warnings() const;  // for the log, after kRun

  std::string Print() const;     // as TOML, with where each value came from as a comment; loads again
  std::string Help() const;      // for --help
  std::string Markdown() const;  // table for docs/configuration.md
  std::vector<SettingInfo> All() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The process's environment.
std::optional<std::string> ProcessEnv(const std::string& name);

}  // namespace cyllm
