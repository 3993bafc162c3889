// A small JSON reader for engines that want no library for it: configurations and messages, not gigabytes.
// Strict (RFC 8259; of members with the same name the first counts); what is no UTF-8 is refused.
// Header-only.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine.hpp"

namespace cyllm::sdk {

struct Json {
  enum class Type { kNull, kBool, kNumber, kString, kArray, kObject };
  Type type = Type::kNull;
  bool boolean = false;
  double number = 0;
  std::string string;
  std::vector<Json> items;         // of an array or an object, as written
  std::vector<std::string> names;  // of an object's items

  bool is(Type t) const { return type == t; }
  // The member, or null where there is none (or this is no object).
  const Json* Find(std::string_view key) const {
    for (size_t i = 0; i < names.size(); ++i)
      if (names[i] == key) return &items[i];
    return nullptr;
  }
};

class JsonReader {
 public:
  // Nothing where `text` is not one JSON value in UTF-8, or nests deeper than 64.
  static std::optional<Json> Read(std::string_view text) {
    JsonReader reader(text);
    Json value;
    if (!IsUtf8(text) || !reader.Value(value, 0)) return std::nullopt;
    reader.Space();
    if (reader.at_ != text.size()) return std::nullopt;
    return value;
  }

 private:
  explicit JsonReader(std::string_view text) : text_(text) {}

  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool Take(char c) {
    if (Peek() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }
  bool Take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  void Space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos)
      ++at_;
  }

  bool Value(Json& out, int depth) {
    if (depth > 64) return false;
    Space();
    switch (Peek()) {
      case '{':
        return Object(out, depth);
      case '[':
        return Array(out, depth);
      case '"':
        out.type = Json::Type::kString;
        return String(out.string);
      case 't':
      case 'f':
        out.type = Json::Type::kBool;
        out.boolean = Peek() == 't';
        return Take(out.boolean ? "true" : "false");
      case 'n':
        return Take("null");
      default:
        return Number(out);
    }
  }

  bool Object(Json& out, int depth) {
    out.type = Json::Type::kObject;
    ++at_;
    Space();
    if (Take('}')) return true;
    do {
      Space();
      if (!String(out.names.emplace_back())) return false;
      Space();
      if (!Take(':') || !Value(out.items.emplace_back(), depth + 1)) return false;
      Space();
    } while (Take(','));
    return Take('}');
  }

  bool Array(Json& out, int depth) {
    out.type = Json::Type::kArray;
    ++at_;
    Space();
    if (Take(']')) return true;
    do {
      if (!Value(out.items.emplace_back(), depth + 1)) return false;
      Space();
    } while (Take(','));
    return Take(']');
  }

  bool Digits() {
    const size_t from = at_;
    while (Peek() >= '0' && Peek() <= '9') ++at_;
    return at_ > from;
  }
  bool Number(Json& out) {
    const size_t from = at_;
    Take('-');
    if (!Take('0') && !Digits()) return false;
    if (Take('.') && !Digits()) return false;
    if (Peek() == 'e' || Peek() == 'E') {
      ++at_;
      if (!Take('+')) Take('-');
      if (!Digits()) return false;
    }
    out.type = Json::Type::kNumber;
    out.number = std::strtod(std::string(text_.substr(from, at_ - from)).c_str(), nullptr);
    return true;
  }

  bool Hex(uint32_t& out) {
    out = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = Peek();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return false;
      out = out * 16 + static_cast<uint32_t>(digit);
      ++at_;
    }
    return true;
  }
  bool Escape(std::string& out) {
    const char c = Peek();
    ++at_;
    const size_t plain = std::string_view("\"\\/bfnrt").find(c);
    if (plain != std::string_view::npos) {
      out += "\"\\/\b\f\n\r\t"[plain];
      return true;
    }
    uint32_t code = 0, low = 0;
    if (c != 'u' || !Hex(code)) return false;
    if (code >= 0xDC00 && code < 0xE000) return false;  // half of a pair
    if (code >= 0xD800 && code < 0xDC00) {
      if (!Take("\\u") || !Hex(low) || low < 0xDC00 || low >= 0xE000) return false;
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    const auto put = [&](uint32_t byte) { out += static_cast<char>(byte); };
    if (code < 0x80) {
      put(code);
    } else if (code < 0x800) {
      put(0xC0 | code >> 6), put(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
      put(0xE0 | code >> 12), put(0x80 | (code >> 6 & 0x3F)), put(0x80 | (code & 0x3F));
    } else {
      put(0xF0 | code >> 18), put(0x80 | (code >> 12 & 0x3F)), put(0x80 | (code >> 6 & 0x3F)),
          put(0x80 | (code & 0x3F));
    }
    return true;
  }
  bool String(std::string& out) {
    if (!Take('"')) return false;
    while (at_ < text_.size()) {
      const char c = text_[at_++];
      if (c == '"') return true;
      if (static_cast<unsigned char>(c) < 0x20) return false;
      if (c != '\\') {
        out += c;
      } else if (!Escape(out)) {
        return false;
      }
    }
    return false;
  }

  const std::string_view text_;
  size_t at_ = 0;
};

}  // namespace cyllm::sdk
