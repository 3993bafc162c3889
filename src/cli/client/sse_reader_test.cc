#include "cli/client/sse_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace cyllm {
namespace {

std::vector<std::string> Read(std::string_view stream, size_t piece) {
  std::vector<std::string> events;
  SseReader reader([&](std::string_view data) { events.emplace_back(data); });
  for (size_t at = 0; at < stream.size(); at += piece) reader.Feed(stream.substr(at, piece));
  return events;
}

TEST(SseReader, GivesTheDataOfEachEventHoweverTheStreamIsCut) {
  const std::string_view stream =
      ": ping\n\ndata: {\"a\":1}\n\nevent: x\nid: 7\ndata:two\ndata:  lines\r\n\r\ndata:\n\ndata: "
      "[DONE]\n\ndata: cut";
  for (size_t piece = 1; piece <= stream.size(); ++piece) {
    EXPECT_THAT(Read(stream, piece), testing::ElementsAre("{\"a\":1}", "two\n lines", "", "[DONE]")) << piece;
  }
}

}  // namespace
}  // namespace cyllm
