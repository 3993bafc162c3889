// What a session has to send, in the order of the wire's fairness rule: control frames (hello, cancel,
// credit, heartbeat) before events before submits, and the payload pieces of different requests in turns.
#pragma once

#include <ai_service.pb.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "inference/request.h"

namespace cyllm {

// Not thread-safe: the session's mutex guards it. Bounded by its users: events by credit, submits by the
// number of requests.
class SessionOutbox {
 public:
  static constexpr size_t kMessageBytes = 64u << 10;  // target size of one message
  static constexpr size_t kPieceBytes = 32u << 10;    // of a payload

  void Control(cy::llm::Frame frame);
  void Events(cy::llm::Frame frame);
  // The submit frame, then `payload` in pieces.
  void Submit(cy::llm::Frame frame, std::shared_ptr<const Payload> payload);

  // Forgets the request's submit or the rest of its payload. True when the submit frame has not left yet: the
  // peer need not hear of the request at all.
  bool DropSubmit(uint64_t id);

  bool empty() const { return control_.empty() && events_.empty() && submits_.empty(); }

  // The next message, about kMessageBytes at most; false when empty.
  bool Take(cy::llm::SessionMessage* out);

 private:
  struct Upload {
    bool done() const { return piece == payload->pieces().size(); }
    std::string Read(size_t most);  // what comes next of it

    cy::llm::Frame frame;
    bool announced = false;
    std::shared_ptr<const Payload> payload;
    size_t piece = 0, sent = 0;  // where in the payload's pieces it stands
  };
  std::deque<cy::llm::Frame> control_, events_;
  std::deque<Upload> submits_;
};

}  // namespace cyllm
