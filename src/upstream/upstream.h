// A server that speaks OpenAI's API, as an InferenceService: requests become HTTP calls on the caller's own
// I/O thread, answers become events.
//
// It asks the server in the background how it is (health, models, load). Requests are sent whether it is
// ready or not; who chooses among several looks at Describe().
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "async/io_pool.h"
#include "inference/service.h"
#include "upstream/health.h"
#include "upstream/http/tls.h"
#include "upstream/openai/profile.h"

namespace cyllm {

struct UpstreamOptions {
  std::string name;                            // in the fleet; Accepted.worker
  std::string url;                             // see http/url.h
  const upstream::Profile* profile = nullptr;  // null: found out from the server's models, else `openai`
  std::string api_key;                         // empty: none
  std::string model;          // ask for this one whatever the request says; empty: for the request's
  std::string default_model;  // what `default` stands for; empty: the first of the server's models
  uint32_t max_running = 0;   // what the server works on at a time; 0: not known
  TlsFiles tls;
  Millis connect_timeout{3'000};
  Millis first_byte_limit{600'000};  // from the request to the head of the answer: queue and prefill
  Millis silence_limit{60'000};      // between two pieces of an answer
  Millis probe_interval{1'000};
  Millis probe_timeout{5'000};
  Millis models_interval{15'000};
  upstream::HealthLimits health;
};

class Upstream : public InferenceService {
 public:
  // Begins to look at the server at once, on `prober`. INVALID_ARGUMENT: URL, TLS files.
  static Result<std::shared_ptr<Upstream>> Make(UpstreamOptions options, Executor prober);
  ~Upstream() override;  // Close()

  EventStream Infer(Request request, Context context) override;
  Snapshot Describe() const override;  // models as the server calls them; `default`: the first
  const upstream::Profile& profile() const;
  const std::string& url() const;  // without base

  // Looks at the server now instead of at the next interval.
  void ProbeNow();
  // The server is known to be gone: not ready until a look begun after this finds another.
  void MarkDown();
  // Ends what runs: UNAVAILABLE with `reason`. New requests may come.
  void EndRunning(const std::string& reason);
  // New requests are refused; blocks until running ones are done, ends them at `until`. Idempotent.
  void Drain(TimePoint until);
  // Drain(now), then gives up all connections. Blocks; not on an I/O thread, and before the threads stop.
  void Close();

  struct Core;  // core.h, of the implementation

 private:
  explicit Upstream(std::shared_ptr<Core> core);
  std::shared_ptr<Core> core_;
};

}  // namespace cyllm
