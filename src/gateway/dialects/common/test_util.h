// For the tests of dialects.
#pragma once

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <string>
#include <vector>

#include "gateway/dialects/common/dialect.h"

namespace cyllm::dialect {

// All that the call's writer makes of the events, and of the end.
inline std::string Answered(const Call& call, const Batch& events, const Status& end = {}) {
  const auto writer = call.writer({call.id_prefix + "1", 99, "trace"});
  std::string out;
  writer->Start(out);
  for (const Event& event : events) writer->Write(event, out);
  if (end.ok()) {
    writer->End(out);
  } else {
    writer->Fail(FromStatus(end), out);
  }
  return out;
}

inline boost::json::value BodyOf(const Call& call, const Batch& events) {
  return boost::json::parse(Answered(call, events));
}

inline const PayloadParts& PartsOf(const Result<Call>& call) {
  return **call->requests.at(0).payload->parts();
}

inline const RequestFacts& FactsOf(const Result<Call>& call) { return call->requests.at(0).facts; }

struct SseEvent {
  std::string name;
  boost::json::value data;
};

// The events of a stream whose data is JSON. Fails the test where the framing is wrong.
inline std::vector<SseEvent> SseEvents(const std::string& text) {
  std::vector<SseEvent> out;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = text.find("\n\n", at);
    if (end == std::string::npos) {
      ADD_FAILURE() << "no end: " << text.substr(at);
      break;
    }
    std::string frame = text.substr(at, end - at);
    SseEvent event;
    if (frame.starts_with("event: ")) {
      event.name = frame.substr(7, frame.find('\n') - 7);
      frame.erase(0, frame.find('\n') + 1);
    }
    EXPECT_TRUE(frame.starts_with("data: ")) << frame;
    EXPECT_EQ(frame.find('\n'), std::string::npos) << frame;
    event.data = boost::json::parse(frame.substr(6));
    out.push_back(std::move(event));
    at = end + 2;
  }
  return out;
}

}  // namespace cyllm::dialect
