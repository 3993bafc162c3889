// An InferenceService in another process: over a session where the peer has one, over StreamPredict where it
// is an old peer (Python). Connects in the background, reconnects with back-off, never gives up.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "async/io_pool.h"
#include "inference/grpc_server.h"
#include "inference/service.h"
#include "inference/tls.h"

namespace cyllm {

struct RemoteOptions {
  std::string address;         // "host:port", "unix:/path" or "unix:///path"
  std::string name;            // of this process, said in Hello
  std::string internal_token;  // sent as `authorization: Bearer ...`; empty: none
  GrpcTls tls;
  size_t max_message_bytes = 100u << 20;
  std::chrono::milliseconds connect_timeout{5'000};  // of the first answer to Attach
  std::chrono::milliseconds backoff_min{50};
  std::chrono::milliseconds backoff_max{2'000};
  std::chrono::milliseconds heartbeat{1'000};      // sent this often ...
  std::chrono::milliseconds silence_limit{4'000};  // ... and a session silent for so long is dead
  // When set, the dialled side is offered this service too (worker -> coordinator registration).
  std::shared_ptr<InferenceService> offer;
};

enum class RemoteState : uint8_t { kConnecting, kSession, kLegacy, kDown };

class RemoteService : public InferenceService {
 public:
  static std::shared_ptr<RemoteService> Make(RemoteOptions options, IoPool& pool);
  ~RemoteService() override;

  // While not connected: ends UNAVAILABLE (retryable) at once.
  EventStream Infer(Request request, Context context) override;
  // The peer's own description; for old peers: its models as asked by Control, ready while it answers Health.
  Snapshot Describe() const override;
  PrefixChanges PrefixesSince(uint64_t& cursor) const override;

  RemoteState state() const;
  const std::string& address() const;
  // Called (on some thread) whenever state() or Describe() changes. Set before the first change matters;
  // once.
  void OnChange(std::function<void()> f);

  // Contract's Control and Health of the peer, blocking, with a deadline; UNAVAILABLE etc. as Status.
  Result<ControlReply> Control(const std::string& command, const std::map<std::string, std::string>& payload,
                               TimePoint deadline);
  Result<HealthReply> Health(TimePoint deadline);

  // Tells the peer to send nothing new, and makes no new session. Does not block.
  void BeginDrain();
  // BeginDrain, and blocks until what it sent is answered, or `until`; true when done.
  // For `offer`.
  bool Drain(TimePoint until);

  void Close();  // ends the session and all its streams (UNAVAILABLE); idempotent

 private:
  struct Impl;
  explicit RemoteService(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace cyllm
