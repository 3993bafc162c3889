#include "inference/event_pipe.h"

#include <gtest/gtest.h>

#include <thread>

#include "inference/fake_service.h"

namespace cyllm {
namespace {

struct Counting : PipeListener {
  uint32_t taken = 0;
  int dropped = 0;
  void OnTaken(uint32_t deltas) override { taken += deltas; }
  void OnDropped() override { ++dropped; }
};

TEST(EventPipe, HandsOutAllThatIsThereThenTheEnd) {
  IoPool pool(1);
  auto listener = std::make_shared<Counting>();
  auto [pipe, stream] = EventPipe::Make(pool.At(0), listener);
  pipe->Push(TextAnswer({"a", "b"}));
  pipe->Push(Event(TextDelta{0, "c"}));
  pipe->End(MakeStatus(Code::kInternal, "first"));
  pipe->End(Status::Ok());
  pipe->Push(Event(TextDelta{0, "late"}));
  NextResult first, second, third;
  pool.RunBlocking([](EventSource& s, NextResult& a, NextResult& b, NextResult& c) -> Task<> {
    a = co_await s.Next(kNever);
    b = co_await s.Next(kNever);
    c = co_await s.Next(Clock::now());
  }(*stream, first, second, third));
  EXPECT_EQ(first.events.size(), 5u);
  EXPECT_EQ(listener->taken, 3u);  // deltas only
  EXPECT_EQ(second.what, NextResult::What::kEnd);
  EXPECT_EQ(second.end.message, "first");
  EXPECT_EQ(third.end, second.end);
  stream.reset();
  EXPECT_EQ(listener->dropped, 0);
}

TEST(EventPipe, ATimeoutLosesNothing) {
  IoPool pool(1);
  auto [pipe, stream] = EventPipe::Make(pool.At(0), nullptr);
  Collected collected;
  bool timed_out = false;
  pool.RunBlocking([](EventSource& s, bool& t) -> Task<> {
    t = (co_await s.Next(Clock::now())).what == NextResult::What::kTimeout;
  }(*stream, timed_out));
  EXPECT_TRUE(timed_out);
  std::thread producer([p = pipe] {
    for (int i = 0; i < 1000; ++i) p->Push(Event(TextDelta{0, "x"}));
    p->End(Status::Ok());
  });
  pool.RunBlocking(Collect(*stream, collected));
  producer.join();
  EXPECT_EQ(collected.Text(), std::string(1000, 'x'));
  EXPECT_TRUE(collected.end.ok());
}

TEST(EventPipe, WakeEndsAWaitOnceAndLosesNothing) {
  IoPool pool(1);
  auto [pipe, stream] = EventPipe::Make(pool.At(0), nullptr);
  NextResult woken, events;
  pool.RunBlocking([](EventSource& s, EventPipe& p, NextResult& a, NextResult& b) -> Task<> {
    Post(co_await CurrentExecutor(), [&s] { s.Wake(); });
    a = co_await s.Next(kNever);
    p.Push(Event(TextDelta{0, "x"}));
    s.Wake();
    b = co_await s.Next(kNever);
  }(*stream, *pipe, woken, events));
  EXPECT_EQ(woken.what, NextResult::What::kTimeout);
  EXPECT_EQ(events.what, NextResult::What::kEvents);
}

TEST(EventPipe, DroppingTheStreamTellsTheProducerOnce) {
  IoPool pool(1);
  auto listener = std::make_shared<Counting>();
  auto [pipe, stream] = EventPipe::Make(pool.At(0), listener);
  stream.reset();
  EXPECT_EQ(listener->dropped, 1);
  pipe->Push(Event(TextDelta{0, "x"}));
  pipe->End(Status::Ok());
  EXPECT_EQ(listener->dropped, 1);
}

TEST(EventPipe, AProducerThatVanishesIsAnError) {
  IoPool pool(1);
  auto [pipe, stream] = EventPipe::Make(pool.At(0), nullptr);
  pipe.reset();
  Collected collected;
  pool.RunBlocking(Collect(*stream, collected));
  EXPECT_EQ(collected.end.code, Code::kInternal);
}

}  // namespace
}  // namespace cyllm
