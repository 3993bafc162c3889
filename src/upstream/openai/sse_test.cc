#include "upstream/openai/sse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cyllm::upstream {
namespace {

using testing::ElementsAre;

std::vector<std::string> Parse(std::string_view text, size_t step, size_t max = 1000) {
  SseParser parser(max);
  std::vector<std::string> events;
  for (size_t at = 0; at < text.size(); at += step)
    if (!parser.Feed(text.substr(at, step), events)) return {"too large"};
  return events;
}

TEST(Sse, CutsAnywhere) {
  const std::string_view text =
      ": ping\n\nevent: x\ndata: {\"a\":1}\r\n\r\ndata:b\ndata: c\n\nid: 7\n\ndata\n\ndata: [DONE]\n\n";
  for (size_t step = 1; step <= text.size(); ++step)
    EXPECT_THAT(Parse(text, step), ElementsAre("{\"a\":1}", "b\nc", "", "[DONE]")) << step;
}

TEST(Sse, LinesEndWithCrToo) {
  EXPECT_THAT(Parse("data: a\rdata: b\r\rdata: c\r\r", 1), ElementsAre("a\nb", "c"));
}

TEST(Sse, AnUnfinishedEventIsNone) { EXPECT_THAT(Parse("data: a\n\ndata: b\n", 3), ElementsAre("a")); }

TEST(Sse, IsBounded) {
  const std::string line = "data: " + std::string(100, 'x') + "\n";
  EXPECT_THAT(Parse(line + "\n", 7, 50), ElementsAre("too large"));
  EXPECT_THAT(Parse(line + line + "\n", 7, 150), ElementsAre("too large"));
  EXPECT_THAT(Parse(std::string(200, 'x'), 200, 150), ElementsAre("too large"));
}

}  // namespace
}  // namespace cyllm::upstream
