#include "upstream/openai/verbatim.h"

#include <algorithm>
#include <array>

namespace cyllm::upstream {

namespace {

// What becomes of a member.
struct Edit {
  enum What : uint8_t { kKeep, kDrop, kReplace, kInside } what = kKeep;
  std::string_view value = {};  // kReplace
};
constexpr Edit kKeep, kDrop{Edit::kDrop}, kInside{Edit::kInside}, kNull{Edit::kReplace, "null"};

constexpr std::array<std::string_view, 7> kOurs = {"id",    "object",      "created",         "model",
                                                   "usage", "performance", "prompt_token_ids"};

bool IsOurs(std::string_view key) { return std::ranges::find(kOurs, key) != kOurs.end(); }

size_t SkipSpace(std::string_view text, size_t at) {
  while (at < text.size() && (text[at] == ' ' || text[at] == '\t')) ++at;
  return at;
}

// `at`: of the opening quote. Past the closing one.
size_t EndOfString(std::string_view text, size_t at) {
  while (true) {
    at = text.find('"', at + 1);
    if (at == text.npos) return text.size();
    size_t escapes = at;
    while (text[escapes - 1] == '\\') --escapes;
    if ((at - escapes) % 2 == 0) return at + 1;
  }
}

size_t EndOfValue(std::string_view text, size_t at) {
  size_t depth = 0;
  while (at < text.size()) {
    switch (text[at]) {
      case '"':
        at = EndOfString(text, at);
        break;
      case '{':
      case '[':
        ++depth;
        ++at;
        continue;
      case '}':
      case ']':
        if (depth == 0) return at;
        --depth;
        ++at;
        break;
      case ',':
      case ' ':
      case '\t':
        if (depth == 0) return at;
        [[fallthrough]];
      default:
        ++at;
        continue;
    }
    if (depth == 0) return at;
  }
  return text.size();
}

constexpr size_t kNotPlain = std::string_view::npos;

// Appends the members of the object at `at` as `edit(key)` says; of kInside, `inside(key, at)` appends the
// value. Past the object; kNotPlain: it is not as plain as it must be.
template <class F, class G>
size_t Copy(std::string_view text, size_t at, std::string& out, const F& edit, const G& inside) {
  if (at >= text.size() || text[at] != '{') return kNotPlain;
  const size_t start = out.size();
  while (true) {
    at = SkipSpace(text, at + 1);
    if (at >= text.size()) return kNotPlain;
    if (text[at] == '}') return at + 1;
    const size_t name = at, name_end = EndOfString(text, at);
    if (name_end < at + 2) return kNotPlain;
    const std::string_view key = text.substr(at + 1, name_end - at - 2);
    if (key.find('\\') != key.npos) return kNotPlain;
    const size_t begin = SkipSpace(text, SkipSpace(text, name_end) + 1);
    if (begin >= text.size()) return kNotPlain;
    const Edit wanted = edit(key);
    if (wanted.what != Edit::kDrop && out.size() > start) out += ',';
    if (wanted.what == Edit::kInside) {
      out += text.substr(name, begin - name);
      at = inside(key, begin);
      if (at == kNotPlain) return kNotPlain;
    } else {
      at = EndOfValue(text, begin);
      if (wanted.what == Edit::kKeep) out += text.substr(name, at - name);
      if (wanted.what == Edit::kReplace) (out += text.substr(name, begin - name)) += wanted.value;
    }
    at = SkipSpace(text, at);
    if (at >= text.size()) return kNotPlain;
    if (text[at] == '}') return at + 1;
    if (text[at] != ',') return kNotPlain;
  }
}

size_t NothingInside(std::string_view, size_t) { return kNotPlain; }

// The role was said when the answer began.
size_t CopyDelta(std::string_view text, size_t at, std::string& out) {
  const size_t end = EndOfValue(text, at);
  const std::string_view delta = text.substr(at, end - at);
  if (delta.find("\"role\"") == delta.npos) {
    out += delta;
    return end;
  }
  out += '{';
  const size_t copied =
      Copy(text, at, out, [](std::string_view key) { return key == "role" ? kDrop : kKeep; }, NothingInside);
  out += '}';
  return copied;
}

// The chunk's members with its one choice as `edit` makes it; `others`: also those beside the choice.
template <class F>
std::string WithChoice(std::string_view chunk, bool others, const F& edit) {
  std::string out;
  out.reserve(chunk.size());
  const auto delta = [&](std::string_view, size_t at) { return CopyDelta(chunk, at, out); };
  const auto choice = [&](std::string_view, size_t at) {
    if (chunk[at] != '[') return kNotPlain;
    out += "[{";
    at = Copy(chunk, SkipSpace(chunk, at + 1), out, edit, delta);
    out += "}]";
    if (at == kNotPlain) return kNotPlain;
    at = SkipSpace(chunk, at);
    return at < chunk.size() && chunk[at] == ']' ? at + 1 : kNotPlain;
  };
  bool found = false;
  const auto beside = [&](std::string_view key) {
    if (key != "choices") return others && !IsOurs(key) ? kKeep : kDrop;
    found = true;
    return kInside;
  };
  return Copy(chunk, SkipSpace(chunk, 0), out, beside, choice) != kNotPlain && found ? out : std::string();
}

bool IsHidden(std::string_view key, const Hidden& hidden) {
  return hidden.token_ids && (key == "token_ids" || key == "prompt_token_ids");
}

std::string_view Quoted(FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength:
      return "\"length\"";
    case FinishReason::kToolCalls:
      return "\"tool_calls\"";
    case FinishReason::kContentFilter:
      return "\"content_filter\"";
    default:
      return "\"stop\"";
  }
}

}  // namespace

std::string DeltaMembers(std::string_view chunk, const Hidden& hidden, bool ends) {
  return WithChoice(chunk, !ends, [&](std::string_view key) {
    if (key == "index" || key == "text") return kKeep;
    if (key == "delta") return kInside;
    if (key == "logprobs") return hidden.logprobs ? kNull : kKeep;
    if (key == "finish_reason") return kNull;
    return ends || IsHidden(key, hidden) ? kDrop : kKeep;
  });
}

std::string EndMembers(std::string_view chunk, const Hidden& hidden, FinishReason reason, bool told) {
  return WithChoice(chunk, true, [&](std::string_view key) {
    if (key == "text") return told ? Edit{Edit::kReplace, "\"\""} : kKeep;
    if (key == "delta") return told ? Edit{Edit::kReplace, "{}"} : kInside;
    if (key == "logprobs") return told || hidden.logprobs ? kNull : kKeep;
    if (key == "finish_reason") return Edit{Edit::kReplace, Quoted(reason)};
    return IsHidden(key, hidden) ? kDrop : kKeep;
  });
}

std::string UsageMembers(std::string_view chunk, bool has_choices) {
  std::string rest;
  const auto edit = [&](std::string_view key) {
    if (key == "usage") return kKeep;
    return has_choices || key == "choices" || IsOurs(key) ? kDrop : kKeep;
  };
  const bool plain = Copy(chunk, SkipSpace(chunk, 0), rest, edit, NothingInside) != kNotPlain;
  return plain && !rest.empty() ? R"("choices":[],)" + rest : std::string();
}

}  // namespace cyllm::upstream
