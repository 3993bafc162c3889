#include "inference/session_outbox.h"

#include <algorithm>

namespace cyllm {
namespace {

using cy::llm::Frame;
using cy::llm::SessionMessage;

// Moves whole frames while there is room; a frame larger than a message goes alone.
void TakeFrames(std::deque<Frame>& from, SessionMessage* out, size_t& bytes) {
  while (!from.empty()) {
    const size_t size = from.front().ByteSizeLong();
    if (bytes > 0 && bytes + size > SessionOutbox::kMessageBytes) return;
    bytes += size;
    out->add_frames()->Swap(&from.front());
    from.pop_front();
  }
}

}  // namespace

void SessionOutbox::Control(Frame frame) { control_.push_back(std::move(frame)); }
void SessionOutbox::Events(Frame frame) { events_.push_back(std::move(frame)); }

void SessionOutbox::Submit(Frame frame, std::shared_ptr<const Payload> payload) {
  frame.mutable_submit()->set_payload_size(payload->size());
  submits_.push_back({std::move(frame), false, std::move(payload), 0});
}

bool SessionOutbox::DropSubmit(uint64_t id) {
  const auto it = std::find_if(submits_.begin(), submits_.end(),
                               [&](const Upload& upload) { return upload.frame.id() == id; });
  if (it == submits_.end()) return false;
  const bool unheard = !it->announced;
  submits_.erase(it);
  return unheard;
}

std::string SessionOutbox::Upload::Read(size_t most) {
  std::string out;
  for (; !done() && out.size() < most; ++piece, sent = 0) {
    const std::string_view next = payload->pieces()[piece].substr(sent, most - out.size());
    if (out.empty()) out.reserve(std::min(most, payload->size()));
    out += next;
    sent += next.size();
    if (sent < payload->pieces()[piece].size()) break;
  }
  return out;
}

bool SessionOutbox::Take(SessionMessage* out) {
  out->Clear();
  size_t bytes = 0;
  TakeFrames(control_, out, bytes);
  TakeFrames(events_, out, bytes);
  while (!submits_.empty() && bytes < kMessageBytes) {
    Upload& upload = submits_.front();
    const uint64_t id = upload.frame.id();
    if (!upload.announced) {
      upload.announced = true;
      bytes += upload.frame.ByteSizeLong();
      out->add_frames()->CopyFrom(upload.frame);
    }
    std::string data = upload.Read(kPieceBytes);
    if (!data.empty()) {
      bytes += data.size();
      Frame* frame = out->add_frames();
      frame->set_id(id);
      frame->mutable_body()->set_data(std::move(data));
    }
    if (!upload.done()) submits_.push_back(std::move(upload));  // the next one's turn
    submits_.pop_front();
  }
  return out->frames_size() > 0;
}

}  // namespace cyllm
