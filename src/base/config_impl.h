// What config.cc (reading) and config_print.cc (showing) share.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/config.h"
#include "base/config_value.h"

namespace cyllm {

struct Settings::Impl {
  struct Setting {
    SettingInfo info;
    std::unique_ptr<SettingTarget> target;
    std::string default_text;
    std::string origin = "default";
  };
  struct Positional {
    std::string name, help;
    std::string* target = nullptr;
    bool required = false;
    bool given = false;
  };
  struct Named {
    std::string name, why;
    bool takes_value = false;
  };
  struct GivenFlag {
    Setting* setting = nullptr;
    std::string value;
  };
  // What the command line says, before any of it is applied.
  struct CommandLine {
    bool help = false, check_config = false, print_config = false;
    std::string config_path;
    std::vector<GivenFlag> flags;
  };

  std::string command, description;
  std::vector<std::unique_ptr<Setting>> settings;
  std::vector<Positional> positionals;
  std::vector<Named> ignored_keys, ignored_variables, ignored_flags, refused_variables;
  std::vector<std::string> config_variables;
  std::map<std::string, std::string> json_keys;
  std::vector<std::function<Status()>> checks;
  std::vector<std::string> warnings;
  std::string output;

  void Add(SettingInfo info, std::unique_ptr<SettingTarget> target);
  Setting* FindKey(const std::string& key);
  Setting* FindFlag(const std::string& flag);

  Result<CommandLine> ReadArgs(const std::vector<std::string>& args);
  Status TakePositional(const std::string& word);
  Status ApplyFile(const std::string& path);
  Status ApplyEnv(const Env& env);
  Status ApplyFlags(const std::vector<GivenFlag>& flags);
  Status RunChecks() const;

  std::vector<std::string> KnownFlags() const;
  std::vector<std::string> KnownKeys(bool json) const;
};

}  // namespace cyllm
