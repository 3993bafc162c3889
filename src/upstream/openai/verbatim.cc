#include "upstream/openai/verbatim.h"

#include <algorithm>
#include <array>
#include <optional>

namespace cyllm::upstream {

namespace {

// What a member's value becomes; nothing: the member is left out.
using Edit = std::optional<std::string_view>;

constexpr std::array<std::string_view, 7> kOurs = {"id",    "object",      "created",         "model",
                                                   "usage", "performance", "prompt_token_ids"};

bool IsOurs(std::string_view key) { return std::ranges::find(kOurs, key) != kOurs.end(); }

size_t SkipSpace(std::string_view text, size_t at) {
  return std::min(text.find_first_not_of(" \t", at), text.size());
}

// `at`: of the opening quote. Past the closing one.
size_t EndOfString(std::string_view text, size_t at) {
  for (++at; at < text.size(); ++at) {
    if (text[at] == '\\') {
      ++at;
    } else if (text[at] == '"') {
      return at + 1;
    }
  }
  return text.size();
}

size_t EndOfValue(std::string_view text, size_t at) {
  size_t depth = 0;
  while (at < text.size()) {
    const char c = text[at];
    if (c == '"') {
      at = EndOfString(text, at);
    } else if (c == '{' || c == '[') {
      ++depth;
      ++at;
      continue;
    } else if (c == '}' || c == ']') {
      if (depth > 0) --depth;
      ++at;
    } else if (depth == 0) {
      return std::min(text.find_first_of(",]} \t", at), text.size());
    } else {
      ++at;
      continue;
    }
    if (depth == 0) return at;
  }
  return text.size();
}

// Appends the members of the object with the values that `edit(key, value)` gives them. False: it is not as
// plain as it must be.
template <class F>
bool Copy(std::string_view object, std::string& out, const F& edit) {
  size_t at = SkipSpace(object, 0);
  if (at >= object.size() || object[at] != '{') return false;
  bool first = true;
  while (true) {
    at = SkipSpace(object, at + 1);
    if (at >= object.size()) return false;
    if (object[at] == '}') return true;
    const size_t key_end = EndOfString(object, at);
    if (key_end < at + 2) return false;
    const std::string_view key = object.substr(at + 1, key_end - at - 2);
    if (key.find('\\') != key.npos) return false;
    const size_t begin = SkipSpace(object, SkipSpace(object, key_end) + 1);
    if (begin >= object.size()) return false;
    const size_t end = EndOfValue(object, begin);
    if (const Edit value = edit(key, object.substr(begin, end - begin))) {
      if (!std::exchange(first, false)) out += ',';
      ((out += '"') += key) += "\":";
      out += *value;
    }
    at = SkipSpace(object, end);
    if (at >= object.size()) return false;
    if (object[at] == '}') return true;
    if (object[at] != ',') return false;
  }
}

// The one element of an array.
std::string_view Only(std::string_view array) {
  const size_t begin = SkipSpace(array, 1);
  return begin < array.size() ? array.substr(begin, EndOfValue(array, begin) - begin) : std::string_view();
}

// The chunk's members with its one choice as `edit` makes it; `others`: also those beside the choice.
template <class F>
std::string WithChoice(std::string_view chunk, bool others, const F& edit) {
  std::string out, choices;
  bool plain = true;
  plain &= Copy(chunk, out, [&](std::string_view key, std::string_view value) -> Edit {
    if (key != "choices") return others && !IsOurs(key) ? Edit(value) : std::nullopt;
    choices = "[{";
    plain &= Copy(Only(value), choices, edit);
    choices += "}]";
    return choices;
  });
  return plain && !choices.empty() ? out : std::string();
}

// The role was said when the answer began.
struct Delta {
  std::string text;
  Edit operator()(std::string_view delta) {
    if (delta.find("\"role\"") == delta.npos) return delta;
    text = "{";
    if (!Copy(delta, text, [](std::string_view key, std::string_view value) {
          return key == "role" ? std::nullopt : Edit(value);
        }))
      return delta;
    text += '}';
    return text;
  }
};

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
  Delta delta;
  return WithChoice(chunk, !ends, [&](std::string_view key, std::string_view value) -> Edit {
    if (key == "index" || key == "text") return value;
    if (key == "delta") return delta(value);
    if (key == "logprobs") return hidden.logprobs ? "null" : value;
    if (key == "finish_reason") return "null";
    return ends || IsHidden(key, hidden) ? std::nullopt : Edit(value);
  });
}

std::string EndMembers(std::string_view chunk, const Hidden& hidden, FinishReason reason, bool told) {
  Delta delta;
  return WithChoice(chunk, true, [&](std::string_view key, std::string_view value) -> Edit {
    if (key == "text") return told ? "\"\"" : value;
    if (key == "delta") return told ? "{}" : delta(value);
    if (key == "logprobs") return told || hidden.logprobs ? "null" : value;
    if (key == "finish_reason") return Quoted(reason);
    return IsHidden(key, hidden) ? std::nullopt : Edit(value);
  });
}

std::string UsageMembers(std::string_view chunk, bool has_choices) {
  std::string out = R"("choices":[])", rest;
  const bool plain = Copy(chunk, rest, [&](std::string_view key, std::string_view value) -> Edit {
    if (key == "usage") return value;
    return has_choices || key == "choices" || IsOurs(key) ? std::nullopt : Edit(value);
  });
  return plain && !rest.empty() ? out + ',' + rest : std::string();
}

}  // namespace cyllm::upstream
