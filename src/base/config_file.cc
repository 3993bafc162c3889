#include "base/config_file.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <toml++/toml.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cstring>
#include <fstream>

namespace cyllm {
namespace {

std::string ExtendPath(const std::string& path, std::string_view key) {
  const bool plain = !key.empty() && std::ranges::all_of(key, [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-';
  });
  const std::string word = plain ? std::string(key) : TomlString(key);
  return path.empty() ? word : path + "." + word;
}

FileValue ScalarOf(const toml::node& node) {
  if (const auto* v = node.as_boolean()) return v->get();
  if (const auto* v = node.as_integer()) return v->get();
  if (const auto* v = node.as_floating_point()) return v->get();
  if (const auto* v = node.as_string()) return v->get();
  return OtherFileValue{};
}

void Flatten(const toml::table& table, const std::string& path, std::vector<FileEntry>& out) {
  for (const auto& [key, node] : table) {
    FileEntry entry{ExtendPath(path, key.str()), {}, static_cast<int>(node.source().begin.line)};
    if (const auto* inner = node.as_table()) {
      Flatten(*inner, entry.path, out);
      continue;
    }
    if (const auto* array = node.as_array()) {
      std::vector<std::string> list;
      for (const auto& element : *array) {
        if (const auto* text = element.as_string()) list.push_back(text->get());
      }
      entry.value = list.size() == array->size() ? FileValue(std::move(list)) : OtherFileValue{};
    } else {
      entry.value = ScalarOf(node);
    }
    out.push_back(std::move(entry));
  }
}

FileValue ScalarOf(const boost::json::value& value) {
  if (value.is_bool()) return value.get_bool();
  if (value.is_int64()) return value.get_int64();
  if (value.is_double()) return value.get_double();
  if (value.is_string()) return std::string(value.get_string());
  return OtherFileValue{};
}

void Flatten(const boost::json::object& object, const std::string& path, std::vector<FileEntry>& out) {
  for (const auto& [key, value] : object) {
    FileEntry entry{ExtendPath(path, key), {}, 0};
    if (const auto* inner = value.if_object()) {
      Flatten(*inner, entry.path, out);
      continue;
    }
    if (const auto* array = value.if_array()) {
      std::vector<std::string> list;
      for (const auto& element : *array) {
        if (element.is_string()) list.emplace_back(element.get_string());
      }
      entry.value = list.size() == array->size() ? FileValue(std::move(list)) : OtherFileValue{};
    } else {
      entry.value = ScalarOf(value);
    }
    out.push_back(std::move(entry));
  }
}

int LineOf(std::string_view text, size_t offset) {
  return 1 + static_cast<int>(std::ranges::count(text.substr(0, offset), '\n'));
}

Result<std::vector<FileEntry>> ParseJson(const std::string& path, std::string_view text) {
  boost::json::stream_parser parser;
  boost::json::error_code error;
  const size_t good = parser.write_some(text.data(), text.size(), error);
  if (!error && !TrimBlanks(text.substr(good)).empty()) error = boost::json::error::extra_data;
  if (!error) parser.finish(error);
  if (error) {
    return Err(InvalidArgument(
        fmt::format("file {}, line {}: not valid JSON ({})", path, LineOf(text, good), error.message())));
  }
  const boost::json::value value = parser.release();
  if (!value.is_object()) return Err(InvalidArgument(fmt::format("file {}: must hold a JSON object", path)));
  std::vector<FileEntry> entries;
  Flatten(value.get_object(), "", entries);
  return entries;
}

Result<std::vector<FileEntry>> ParseToml(const std::string& path, std::string_view text) {
  try {
    std::vector<FileEntry> entries;
    Flatten(toml::parse(text), "", entries);
    return entries;
  } catch (const toml::parse_error& error) {
    return Err(InvalidArgument(fmt::format("file {}, line {}: not valid TOML ({})", path,
                                           error.source().begin.line, error.description())));
  }
}

Result<std::string> ReadAll(const std::string& path) {
  struct stat info{};
  if (stat(path.c_str(), &info) != 0) {
    return Err(InvalidArgument(fmt::format("file {}: cannot be read: {}", path, std::strerror(errno))));
  }
  if (!S_ISREG(info.st_mode)) return Err(InvalidArgument(fmt::format("file {}: is not a file", path)));
  std::ifstream in(path, std::ios::binary);
  if (!in)
    return Err(InvalidArgument(fmt::format("file {}: cannot be read: {}", path, std::strerror(errno))));
  std::string text(kMaxConfigFileBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kMaxConfigFileBytes) {
    return Err(InvalidArgument(fmt::format("file {}: is longer than {} bytes", path, kMaxConfigFileBytes)));
  }
  return text;
}

}  // namespace

bool IsJsonFile(const std::string& path) { return path.ends_with(".json"); }

Result<std::vector<FileEntry>> ReadConfigFile(const std::string& path) {
  const auto text = ReadAll(path);
  if (!text) return Err(text.error());
  return IsJsonFile(path) ? ParseJson(path, *text) : ParseToml(path, *text);
}

}  // namespace cyllm
