// Bodies and event streams of any kind, cut anywhere: events that keep the interface's rules, or an error.
#include <boost/json.hpp>
#include <cstdlib>

#include "upstream/openai/answer.h"
#include "upstream/openai/discovery.h"
#include "upstream/openai/error.h"
#include "upstream/openai/sse.h"

namespace json = boost::json;
using namespace cyllm;
using namespace cyllm::upstream;

namespace {

void Check(bool ok) {
  if (!ok) std::abort();
}

void CheckError(const Status& status) {
  Check(status.code != Code::kOk && !status.message.empty() && status.message.size() < 10'000);
}

// The chunks that go on as they came are JSON on one line.
void CheckChunk(const std::string& members) {
  json::error_code ec;
  const json::value value = json::parse('{' + members + '}', ec);
  Check(!ec && value.is_object() && members.find('\n') == members.npos);
  Check(members.empty() || value.get_object().contains("choices"));
}

// Accepted first, offsets never back, one Finished a choice and only at the end.
void CheckEvents(const Batch& events, uint32_t choices, bool ended) {
  std::vector<uint64_t> text(choices), tools(choices);
  uint32_t finished = 0;
  for (size_t i = 0; i < events.size(); ++i) {
    Check(std::holds_alternative<Accepted>(events[i]) == (i == 0));
    if (const auto* delta = std::get_if<TextDelta>(&events[i])) {
      Check(delta->choice < choices);
      Check(delta->end.text_bytes == (text[delta->choice] += delta->text.size()));
    }
    if (const auto* call = std::get_if<ToolCallDelta>(&events[i])) {
      Check(call->choice < choices && call->id.empty() == call->name.empty());
      Check(call->end.tool_argument_bytes == (tools[call->choice] += call->arguments.size()));
    }
    std::visit(
        [](const auto& e) {
          if constexpr (requires { e.chunk; }) CheckChunk(e.chunk);
          if constexpr (requires { e.usage_chunk; }) CheckChunk(e.usage_chunk);
        },
        events[i]);
    finished += std::holds_alternative<Finished>(events[i]);
    Check(finished == 0 || std::holds_alternative<Finished>(events[i]));
  }
  Check(finished == (ended ? choices : 0));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const auto kind = static_cast<Kind>(data[0] % kKinds);
  const size_t cut = data[1];
  const std::string_view body(reinterpret_cast<const char*>(data + 2), size - 2);
  Batch events;
  if (kind > Kind::kTokens) {
    const Status status = ReadBody(kind, 2, body, "w", events);
    if (!status.ok()) CheckError(status);
    Check(status.ok() || events.empty());
  } else {
    const uint32_t choices = 1 + data[1] % 3;
    SseParser parser(1 << 16);
    StreamAnswer answer({.kind = kind,
                         .choices = choices,
                         .worker = "w",
                         .usage_per_choice = size % 2 == 0,
                         .verbatim = size % 3 > 0,
                         .hidden = {size % 5 == 0, size % 7 == 0}});
    std::vector<std::string> found;
    bool fits = parser.Feed(body.substr(0, cut), found) &&
                (cut >= body.size() || parser.Feed(body.substr(cut), found));
    Status status;
    for (const std::string& event : found) {
      if (status = answer.OnData(event, TimePoint{}, events); !status.ok()) break;
    }
    if (fits && status.ok()) status = answer.OnEnd(events);
    if (!status.ok()) CheckError(status);
    CheckEvents(events, choices, fits && status.ok());
  }
  CheckError(FromHttp(400 + data[1], body, Millis(0)));
  (void)ReadModels(body);
  for (const Profile& profile : Profiles()) (void)ReadLoad(profile, body);
  return 0;
}
