#include "base/config_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace cyllm {
namespace {

template <class T>
bool ParseNumber(std::string_view text, T& out) {
  const char* end = text.data() + text.size();
  const auto [ptr, error] = std::from_chars(text.data(), end, out);
  return error == std::errc() && ptr == end;
}

// What a SettingInfo demands of a text.
struct TextRule {
  std::vector<std::string> choices;
  SettingCheck check;

  bool Accepts(const std::string& text) const {
    if (!choices.empty() && std::ranges::find(choices, text) == choices.end()) return false;
    return !check.ok || check.ok(text);
  }
  std::string Allowed(std::string_view otherwise) const {
    if (!check.allowed.empty()) return check.allowed;
    if (!choices.empty()) return "one of " + JoinWords(choices, ", ");
    return std::string(otherwise);
  }
};

class TextTarget : public SettingTarget {
 public:
  TextTarget(TextRule rule, std::string* target) : rule_(std::move(rule)), target_(target) {}
  bool FromText(std::string_view text) override {
    std::string value(text);
    if (!rule_.Accepts(value)) return false;
    *target_ = std::move(value);
    return true;
  }
  bool FromFile(const FileValue& value) override {
    const auto* text = std::get_if<std::string>(&value);
    return text && FromText(*text);
  }
  std::string Allowed() const override { return rule_.Allowed("a string"); }
  std::string Text() const override { return *target_; }
  std::string Toml() const override { return TomlString(*target_); }

 private:
  TextRule rule_;
  std::string* target_;
};

class IntTarget : public SettingTarget {
 public:
  IntTarget(int64_t* target, int64_t min, int64_t max) : target_(target), min_(min), max_(max) {}
  bool FromText(std::string_view text) override {
    int64_t value = 0;
    return ParseNumber(text, value) && Take(value);
  }
  bool FromFile(const FileValue& value) override {
    const auto* number = std::get_if<int64_t>(&value);
    return number && Take(*number);
  }
  std::string Allowed() const override { return fmt::format("a whole number from {} to {}", min_, max_); }
  std::string Text() const override { return fmt::to_string(*target_); }
  std::string Toml() const override { return Text(); }

 private:
  bool Take(int64_t value) {
    if (value < min_ || value > max_) return false;
    *target_ = value;
    return true;
  }
  int64_t* target_;
  int64_t min_, max_;
};

class DoubleTarget : public SettingTarget {
 public:
  DoubleTarget(double* target, double min, double max) : target_(target), min_(min), max_(max) {}
  bool FromText(std::string_view text) override {
    double value = 0;
    return ParseNumber(text, value) && Take(value);
  }
  bool FromFile(const FileValue& value) override {
    if (const auto* number = std::get_if<double>(&value)) return Take(*number);
    const auto* whole = std::get_if<int64_t>(&value);
    return whole && Take(static_cast<double>(*whole));
  }
  std::string Allowed() const override { return fmt::format("a number from {} to {}", min_, max_); }
  std::string Text() const override { return fmt::to_string(*target_); }
  std::string Toml() const override { return fmt::format("{:#}", *target_); }

 private:
  bool Take(double value) {
    if (!std::isfinite(value) || value < min_ || value > max_) return false;
    *target_ = value;
    return true;
  }
  double* target_;
  double min_, max_;
};

class BoolTarget : public SettingTarget {
 public:
  explicit BoolTarget(bool* target) : target_(target) {}
  bool FromText(std::string_view text) override {
    std::string word(text);
    std::ranges::transform(word, word.begin(), [](unsigned char c) { return std::tolower(c); });
    if (word == "1" || word == "true" || word == "yes" || word == "on") {
      *target_ = true;
    } else if (word == "0" || word == "false" || word == "no" || word == "off") {
      *target_ = false;
    } else {
      return false;
    }
    return true;
  }
  bool FromFile(const FileValue& value) override {
    const auto* flag = std::get_if<bool>(&value);
    if (flag) *target_ = *flag;
    return flag;
  }
  std::string Allowed() const override { return "true or false"; }
  std::string Text() const override { return *target_ ? "true" : "false"; }
  std::string Toml() const override { return Text(); }
  bool IsBool() const override { return true; }

 private:
  bool* target_;
};

class ListTarget : public SettingTarget {
 public:
  ListTarget(TextRule rule, std::vector<std::string>* target) : rule_(std::move(rule)), target_(target) {}
  bool FromText(std::string_view text) override { return Take(SplitList(text)); }
  bool FromFile(const FileValue& value) override {
    if (const auto* text = std::get_if<std::string>(&value)) return FromText(*text);
    const auto* list = std::get_if<std::vector<std::string>>(&value);
    return list && Take(*list);
  }
  std::string Allowed() const override { return "a list, each " + rule_.Allowed("a string"); }
  std::string Text() const override { return JoinWords(*target_, ","); }
  std::string Toml() const override {
    std::vector<std::string> quoted;
    for (const auto& element : *target_) quoted.push_back(TomlString(element));
    return "[" + JoinWords(quoted, ", ") + "]";
  }
  bool IsList() const override { return true; }

 private:
  bool Take(std::vector<std::string> list) {
    if (!std::ranges::all_of(list, [&](const std::string& element) { return rule_.Accepts(element); })) {
      return false;
    }
    *target_ = std::move(list);
    return true;
  }
  TextRule rule_;
  std::vector<std::string>* target_;
};

}  // namespace

std::unique_ptr<SettingTarget> MakeTarget(const SettingInfo& info, std::string* target) {
  return std::make_unique<TextTarget>(TextRule{info.choices, info.check}, target);
}
std::unique_ptr<SettingTarget> MakeTarget(int64_t* target, int64_t min, int64_t max) {
  return std::make_unique<IntTarget>(target, min, max);
}
std::unique_ptr<SettingTarget> MakeTarget(double* target, double min, double max) {
  return std::make_unique<DoubleTarget>(target, min, max);
}
std::unique_ptr<SettingTarget> MakeTarget(bool* target) { return std::make_unique<BoolTarget>(target); }
std::unique_ptr<SettingTarget> MakeTarget(const SettingInfo& info, std::vector<std::string>* target) {
  return std::make_unique<ListTarget>(TextRule{info.choices, info.check}, target);
}

std::string_view TrimBlanks(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

std::vector<std::string> SplitList(std::string_view text) {
  std::vector<std::string> out;
  while (true) {
    const size_t comma = text.find(',');
    const std::string_view element = TrimBlanks(text.substr(0, comma));
    if (!element.empty()) out.emplace_back(element);
    if (comma == std::string_view::npos) return out;
    text.remove_prefix(comma + 1);
  }
}

std::string JoinWords(const std::vector<std::string>& words, std::string_view separator) {
  return fmt::format("{}", fmt::join(words, separator));
}

std::string TomlString(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\u{:04X}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

}  // namespace cyllm
