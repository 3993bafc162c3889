#include "inference/grpc_threads.h"

#include <ai_service.grpc.pb.h>
#include <grpcpp/grpcpp.h>

namespace cyllm {

namespace {

// A call that fails at once, on a channel that is never let go.
struct Keeper {
  std::shared_ptr<grpc::Channel> channel =
      grpc::CreateChannel("unix:/dev/null/none", grpc::InsecureChannelCredentials());
  std::unique_ptr<cy::llm::AiInference::Stub> stub = cy::llm::AiInference::NewStub(channel);
  grpc::ClientContext context;
  cy::llm::WorkerHealthRequest request;
  cy::llm::WorkerHealthResponse response;

  Keeper() {
    context.set_deadline(std::chrono::system_clock::now());
    stub->async()->Health(&context, &request, &response, [](const grpc::Status&) {});
  }
};

}  // namespace

void KeepGrpcThreads() {
  static const auto* const keeper = new Keeper;
  static_cast<void>(keeper);
}

}  // namespace cyllm
