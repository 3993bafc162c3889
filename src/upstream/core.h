// Inside of Upstream: what its requests and its looking at the server share. Thread-safe but where noted.
#pragma once

#include <boost/asio/cancellation_signal.hpp>
#include <unordered_map>
#include <vector>

#include "async/signal.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "upstream/http/client.h"
#include "upstream/openai/discovery.h"
#include "upstream/upstream.h"

namespace cyllm {

namespace upstream {
class Call;
}

struct UpstreamMetrics {
  prometheus::Counter& requests = Counter("upstream_requests_total", "Requests sent to model servers");
  prometheus::Counter& failures =
      Counter("upstream_failures_total", "Requests that a model server failed to answer");
  prometheus::Counter& probes_failed =
      Counter("upstream_probe_failures_total", "Health probes of model servers without a good answer");
};

struct Upstream::Core : std::enable_shared_from_this<Core> {
  Core(UpstreamOptions o, Url u, std::shared_ptr<boost::asio::ssl::context> t, Executor p);

  const UpstreamOptions options;
  const Url url;
  const std::shared_ptr<boost::asio::ssl::context> tls;
  const Executor prober;
  std::atomic<const upstream::Profile*> profile;
  UpstreamMetrics metrics;

  // The client of a thread; null after Close.
  std::shared_ptr<HttpClient> ClientOf(const Executor& home);
  // How a request ended, for the server's health.
  void Note(const Status& end);
  // What the server calls the model; options.model, or what `default` stands for.
  std::string ModelName(const std::string& asked) const;

  // Equal where answers of one server can be gone on with by another; empty: never.
  std::string DigestOf(const std::string& served) const;
  uint32_t ContextOf(const std::string& served) const;  // tokens; 0: not told

  bool Register(const std::shared_ptr<upstream::Call>& call);  // false: draining
  void Unregister(const upstream::Call* call);
  void EndRunning(const Status& why, TimePoint silent_since = kNever);

  // probe.cc. On `prober` only.
  void StartLooking();
  void StopLooking();  // any thread; blocks until it has stopped
  Task<> Look();
  Task<> Probe();
  Task<Result<std::string>> Get(std::string path);

  mutable Mutex mutex;
  CondVar changed;
  upstream::Health health CY_GUARDED_BY(mutex);
  uint64_t lives CY_GUARDED_BY(mutex) = 0;  // of the server, as far as we were told
  std::vector<upstream::ServedModel> models CY_GUARDED_BY(mutex);
  std::string trouble CY_GUARDED_BY(mutex);  // with the model list; empty: none
  upstream::ImportedLoad load CY_GUARDED_BY(mutex);
  std::unordered_map<const upstream::Call*, std::weak_ptr<upstream::Call>> running CY_GUARDED_BY(mutex);
  std::vector<std::pair<Executor, std::shared_ptr<HttpClient>>> clients CY_GUARDED_BY(mutex);
  bool draining CY_GUARDED_BY(mutex) = false;
  bool closed CY_GUARDED_BY(mutex) = false;
  bool looking CY_GUARDED_BY(mutex) = false;

  Signal look_now;
  boost::asio::cancellation_signal stop_looking;  // on prober only
  TimePoint models_due = TimePoint::min();        // on prober only
  bool looked = false;                            // on prober only
};

}  // namespace cyllm
