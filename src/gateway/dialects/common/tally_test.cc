#include "gateway/dialects/common/tally.h"

#include <gtest/gtest.h>

namespace cyllm {
namespace {

TEST(Tally, CountsWhatWasDeliveredAndWhatIsFinished) {
  Tally tally;
  tally.See({Accepted{12}, TextDelta{0, "a", {1}, {}, {1, 1}}, TextDelta{1, "b", {1, 2}, {}, {2, 1}}});
  EXPECT_EQ(tally.prompt_tokens(), 12u);
  EXPECT_EQ(tally.completion_tokens(), 3u);
  ToolCallDelta call;
  call.choice = 1;
  call.end.tokens = 7;
  tally.See(call);
  EXPECT_EQ(tally.completion_tokens(), 8u);
  Finished finished;
  finished.usage.completion_tokens = 4;  // the last ones showed nothing
  tally.See(finished);
  EXPECT_EQ(tally.completion_tokens(), 11u);
}

}  // namespace
}  // namespace cyllm
