// The contract's StreamPredict, both ends, over gRPC's callback API: one call per request, for old peers.
#pragma once

#include <ai_service.grpc.pb.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <string>

#include "async/io_pool.h"
#include "async/scope.h"
#include "inference/service.h"

namespace cyllm {

// Serves one call: reads the first message, answers from `service`. The reactor owns itself; its task runs on
// `pool` inside `scope`.
grpc::ServerBidiReactor<cy::llm::StreamPredictRequest, cy::llm::StreamPredictResponse>* ServeStreamPredict(
    grpc::CallbackServerContext* context, std::shared_ptr<InferenceService> service, IoPool& pool,
    Scope& scope, size_t max_prompt_chars);

// Runs `request` on an old peer. `progress`, if given: set to the Clock's ticks at each message that comes.
EventStream CallStreamPredict(const std::shared_ptr<grpc::Channel>& channel,
                              const std::string& internal_token, const Request& request,
                              const Context& context,
                              std::shared_ptr<std::atomic<int64_t>> progress = nullptr);

}  // namespace cyllm
