// The gRPC face of any InferenceService: AiInference (StreamPredict, Control, Health) for old peers,
// AiSession.Attach for ours, AiTraining answered UNIMPLEMENTED.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "async/io_pool.h"
#include "base/status.h"
#include "inference/service.h"
#include "inference/tls.h"

namespace cyllm {

using ControlReply = std::map<std::string, std::string>;  // ControlMessage.payload: status, message...

struct HealthReply {
  bool healthy = false;
  std::map<std::string, std::string> metrics;
};

// What Control and Health of the contract ask. Thread-safe. Must not block on the network for long: runs on a
// gRPC thread (a coordinator asks its fleet with a deadline).
class ControlHandler {
 public:
  virtual ~ControlHandler() = default;
  virtual ControlReply Control(const std::string& command,
                               const std::map<std::string, std::string>& payload) = 0;
  virtual HealthReply Health() = 0;
};

// A peer that attached by itself and serves requests: seen as a service as long as the session lives.
struct AttachedPeer {
  std::string name;
  std::shared_ptr<InferenceService> service;
  bool left = false;  // `gone`: it said go-away before
};
// Called on a gRPC thread; `gone` peers are identified by the same service pointer.
struct AttachListener {
  std::function<void(const AttachedPeer&)> on_attached;
  std::function<void(const AttachedPeer&)> on_gone;
  std::function<void(const AttachedPeer&)> on_changed;  // its Describe() changed
};

struct GrpcServerOptions {
  std::vector<std::string>
      listen;  // "host:port" (port 0: any) or "unix:/path"; a live owner of a socket is refused
  std::string internal_token;             // CY_LLM_INTERNAL_TOKEN; empty: not asked for
  bool token_for_control = true;          // the contract: StreamPredict, Control, training; Health never
  bool require_token_for_attach = false;  // Attach on a public address without a token is refused
  std::string name;                       // of this process, said in Hello
  GrpcTls tls;                            // of TCP listeners
  size_t max_message_bytes = 100u << 20;
  size_t max_prompt_chars = 50'000;   // of a StreamPredict without payload; 0: unlimited
  bool accept_serving_peers = false;  // coordinator: workers may register over Attach
  // What callers of StreamPredict are given instead of the service: they are the edge, our own peers are not.
  std::shared_ptr<InferenceService> edge;
};

class GrpcServer {
 public:
  GrpcServer(GrpcServerOptions options, IoPool& pool, std::shared_ptr<InferenceService> service,
             ControlHandler* control, AttachListener listener = {});
  ~GrpcServer();  // Stop()

  Status Start();
  std::vector<int> ports() const;  // of the TCP entries of `listen`, in order

  // Tells sessions to go away and refuses new calls. Does not block.
  void BeginDrain();
  // BeginDrain; returns when running calls are done, or at `until`.
  bool Drain(TimePoint until);
  void Stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cyllm
