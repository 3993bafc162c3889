#include "inference/session_outbox.h"

#include <gtest/gtest.h>

#include <map>

namespace cyllm {
namespace {

using cy::llm::Frame;
using cy::llm::SessionMessage;

std::shared_ptr<const Payload> PayloadOf(size_t bytes) { return Payload::FromBytes(std::string(bytes, 'p')); }

Frame SubmitFrame(uint64_t id) {
  Frame frame;
  frame.set_id(id);
  frame.mutable_submit();
  return frame;
}

TEST(SessionOutbox, ControlBeforeEventsBeforeSubmits) {
  SessionOutbox outbox;
  outbox.Submit(SubmitFrame(1), PayloadOf(3));
  Frame events;
  events.set_id(2);
  events.mutable_events();
  outbox.Events(events);
  Frame cancel;
  cancel.set_id(3);
  cancel.mutable_cancel();
  outbox.Control(cancel);
  SessionMessage message;
  ASSERT_TRUE(outbox.Take(&message));
  ASSERT_EQ(message.frames_size(), 4);
  EXPECT_TRUE(message.frames(0).has_cancel());
  EXPECT_TRUE(message.frames(1).has_events());
  EXPECT_TRUE(message.frames(2).has_submit());
  EXPECT_EQ(message.frames(2).submit().payload_size(), 3u);
  EXPECT_EQ(message.frames(3).body().data(), "ppp");
  EXPECT_TRUE(outbox.empty());
  EXPECT_FALSE(outbox.Take(&message));
}

TEST(SessionOutbox, LargePayloadsTakeTurnsAndArriveWhole) {
  SessionOutbox outbox;
  const std::map<uint64_t, size_t> sizes = {{1, 300'000}, {2, 200'000}, {3, 10}};
  for (const auto& [id, size] : sizes) outbox.Submit(SubmitFrame(id), PayloadOf(size));
  std::map<uint64_t, size_t> received;
  SessionMessage message;
  int messages = 0, third_done_after = 0;
  while (outbox.Take(&message)) {
    ++messages;
    EXPECT_LE(message.ByteSizeLong(), SessionOutbox::kMessageBytes + SessionOutbox::kPieceBytes + 200);
    for (const Frame& frame : message.frames()) received[frame.id()] += frame.body().data().size();
    if (received[3] == 10 && third_done_after == 0) third_done_after = messages;
  }
  EXPECT_EQ(received, sizes);
  EXPECT_LE(third_done_after, 2);  // not behind 500 kB
}

TEST(SessionOutbox, PayloadsOfManyPiecesArriveWhole) {
  PayloadParts parts;
  parts.messages_json = std::string(70'001, 'm');
  parts.tools_json = "[]";
  parts.prompt = std::string(SessionOutbox::kPieceBytes, 'p');
  const auto payload = Payload::Of(parts);
  SessionOutbox outbox;
  outbox.Submit(SubmitFrame(1), payload);
  std::string received;
  SessionMessage message;
  while (outbox.Take(&message)) {
    for (const Frame& frame : message.frames()) {
      EXPECT_LE(frame.body().data().size(), SessionOutbox::kPieceBytes);
      received += frame.body().data();
    }
  }
  EXPECT_TRUE(received == payload->bytes());
}

TEST(SessionOutbox, ADroppedSubmitIsForgotten) {
  SessionOutbox outbox;
  outbox.Submit(SubmitFrame(1), PayloadOf(100'000));
  outbox.Submit(SubmitFrame(2), PayloadOf(100'000));
  EXPECT_TRUE(outbox.DropSubmit(2));
  SessionMessage message;
  ASSERT_TRUE(outbox.Take(&message));
  EXPECT_FALSE(outbox.DropSubmit(1));  // the peer has heard of it: it needs a cancel
  EXPECT_TRUE(outbox.empty());
  EXPECT_FALSE(outbox.DropSubmit(7));
}

}  // namespace
}  // namespace cyllm
