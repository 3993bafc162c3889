// The wire form of Request, Event, Snapshot and Status (proto/ai_service.proto), and what old peers see of
// them. Pure functions. Unknown enum values read as the first one; what is missing reads as the default.
#pragma once

#include <ai_service.pb.h>

#include <string>
#include <string_view>
#include <vector>

#include "inference/service.h"

namespace cyllm::wire {

// Facts, metadata and context; not the payload (the session sends it in pieces, StreamPredict in field 101).
void Put(const RequestFacts& facts, cy::llm::RequestFacts* out);
RequestFacts Get(const cy::llm::RequestFacts& in);

// A serialized cy::llm::Payload as views, in order, into `parts` and `small`.
std::vector<std::string_view> Pieces(const PayloadParts& parts, std::string* small);
PayloadParts Get(cy::llm::Payload in);

// The deadline travels as remaining time.
void Put(const Context& context, TimePoint now, cy::llm::CallContext* out);
// `home` is left empty.
Context Get(const cy::llm::CallContext& in, TimePoint now);

void Put(const Event& event, cy::llm::Event* out);
Event Get(const cy::llm::Event& in);  // an unset kind reads as Progress: nothing known

void Put(const Status& status, cy::llm::Error* out);
Status Get(const cy::llm::Error& in);

void Put(const Snapshot& snapshot, cy::llm::Snapshot* out);
Snapshot Get(const cy::llm::Snapshot& in);

}  // namespace cyllm::wire
