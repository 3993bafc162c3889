// The typed variables behind settings: how each is read from text and from a file, and written.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/config.h"

namespace cyllm {

struct OtherFileValue {};  // a date, an array of mixed things...
using FileValue = std::variant<bool, int64_t, double, std::string, std::vector<std::string>, OtherFileValue>;

// Refers to a variable of the program. A value that is refused leaves it as it was.
class SettingTarget {
 public:
  virtual ~SettingTarget() = default;
  virtual bool FromText(std::string_view text) = 0;
  virtual bool FromFile(const FileValue& value) = 0;
  virtual std::string Allowed() const = 0;  // follows "must be "
  virtual std::string Text() const = 0;     // as in a flag
  virtual std::string Toml() const = 0;
  virtual bool IsList() const { return false; }
  virtual bool IsBool() const { return false; }
};

std::unique_ptr<SettingTarget> MakeTarget(const SettingInfo& info, std::string* target);
std::unique_ptr<SettingTarget> MakeTarget(int64_t* target, int64_t min, int64_t max);
std::unique_ptr<SettingTarget> MakeTarget(double* target, double min, double max);
std::unique_ptr<SettingTarget> MakeTarget(bool* target);
std::unique_ptr<SettingTarget> MakeTarget(const SettingInfo& info, std::vector<std::string>* target);

std::string_view TrimBlanks(std::string_view text);
// Trimmed, without empty elements.
std::vector<std::string> SplitList(std::string_view text);
std::string JoinWords(const std::vector<std::string>& words, std::string_view separator);
std::string TomlString(std::string_view text);  // quoted and escaped

}  // namespace cyllm
