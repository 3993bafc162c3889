// Sessions over gRPC's callback API: the dialling and the accepting end of AiSession.Attach.
#pragma once

#include <ai_service.grpc.pb.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "inference/session.h"

namespace cyllm {

// Dials. The session ends (OnClosed) with the call's status; UNIMPLEMENTED: the peer has no sessions. The
// call keeps itself and the session alive until then.
void DialSession(const std::shared_ptr<grpc::Channel>& channel, const std::string& internal_token,
                 std::shared_ptr<Session> session);

// Accepts: returns the reactor of one Attach call, which owns itself and keeps the session alive.
grpc::ServerBidiReactor<cy::llm::SessionMessage, cy::llm::SessionMessage>* AcceptSession(
    grpc::CallbackServerContext* context, std::shared_ptr<Session> session);

// gRPC's status as ours and back. The way back keeps code and message.
Status FromGrpc(const grpc::Status& status);
grpc::Status ToGrpc(const Status& status);

}  // namespace cyllm
