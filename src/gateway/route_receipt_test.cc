#include "gateway/route_receipt.h"

#include <gtest/gtest.h>

namespace cyllm {
namespace {

TEST(RouteNote, IsTheFirstRequestsAndKnowsHowOftenItMoved) {
  RouteNote note;
  EXPECT_EQ(note.Text(), "");
  note.See({Accepted{1, 0, "w1", "d", true, {"prefix_aware", 0.926f, 12.4, 2}}});
  note.See({Accepted{1, 0, "w2", "d", true, {"random", 0, 0, 1}}});
  EXPECT_EQ(note.Text(),
            "worker=w1; policy=prefix_aware; prefix_hit=0.93; queue_ms=12; attempts=2; resumed=0");
  Finished finished;
  finished.resumed = 3;
  note.See({finished});
  EXPECT_NE(note.Text().find("resumed=3"), std::string::npos);
}

TEST(RouteNote, OfAFailureItIsTheLastTry) {
  RouteNote note;
  note.See({Tried{"", {"", 0, 3.2, 0}}});
  EXPECT_EQ(note.Text(), "worker=-; policy=-; prefix_hit=0.00; queue_ms=3; attempts=0; resumed=0");
  note.See({Tried{"w2", {"least_load", 0, 0, 3}}});
  EXPECT_EQ(note.Text(), "worker=w2; policy=least_load; prefix_hit=0.00; queue_ms=0; attempts=3; resumed=0");
  note.See({Accepted{1, 0, "w1", "d", true, {"random", 0, 0, 1}}, Tried{"w3", {}}});
  EXPECT_EQ(note.Text(), "worker=w1; policy=random; prefix_hit=0.00; queue_ms=0; attempts=1; resumed=0");
}

TEST(RouteNote, APeersWordsMakeNoHeaderOfTheirOwn) {
  RouteNote note;
  note.See({Accepted{1, 0, "a\r\nSet-Cookie: x;y"}});
  EXPECT_EQ(note.Text(),
            "worker=a__Set-Cookie:_x_y; policy=-; prefix_hit=0.00; queue_ms=0; attempts=0; resumed=0");
}

}  // namespace
}  // namespace cyllm
