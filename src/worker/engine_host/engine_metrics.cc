#include "worker/engine_host/engine_metrics.h"

#include <utility>

namespace cyllm {

EngineMetrics::EngineMetrics(const std::string& model, std::function<cyllm_stats()> stats)
    : stats_(std::move(stats)),
      running_(
          Gauge("worker_engine_requests_running", "Requests that the engine computes", {{"model", model}})),
      waiting_(
          Gauge("worker_engine_requests_waiting", "Requests that wait in the engine", {{"model", model}})),
      kv_used_(Gauge("worker_engine_kv_tokens_used", "Tokens that running requests hold in the KV cache",
                     {{"model", model}})),
      kv_total_(Gauge("worker_engine_kv_tokens", "Tokens that running requests can hold there",
                      {{"model", model}})),
      totals_{{
          {Counter("worker_engine_steps_total", "Batches computed", {{"model", model}}), &cyllm_stats::steps},
          {Counter("worker_engine_generated_tokens_total", "Tokens generated", {{"model", model}}),
           &cyllm_stats::tokens_generated},
          {Counter("worker_engine_prefill_tokens_total", "Prompt tokens computed", {{"model", model}}),
           &cyllm_stats::prompt_tokens_processed},
          {Counter("worker_engine_cached_tokens_total", "Prompt tokens whose KV was there",
                   {{"model", model}}),
           &cyllm_stats::prompt_tokens_cached},
          {Counter("worker_engine_evicted_tokens_total", "Tokens of which the KV was given up for room",
                   {{"model", model}}),
           &cyllm_stats::cached_tokens_evicted},
          {Counter("worker_engine_preemptions_total", "Running requests set back to make room",
                   {{"model", model}}),
           &cyllm_stats::preemptions},
          {Counter("worker_engine_draft_tokens_total", "Tokens guessed by speculation", {{"model", model}}),
           &cyllm_stats::draft_tokens},
          {Counter("worker_engine_draft_tokens_accepted_total", "Of these, those that were right",
                   {{"model", model}}),
           &cyllm_stats::draft_tokens_accepted},
      }},
      update_([this] { Update(stats_()); }) {}

EngineMetrics::~EngineMetrics() {
  for (prometheus::Gauge* gauge : {&running_, &waiting_, &kv_used_, &kv_total_}) gauge->Set(0);
}

void EngineMetrics::Update(const cyllm_stats& stats) {
  running_.Set(stats.running);
  waiting_.Set(stats.waiting);
  kv_used_.Set(static_cast<double>(stats.kv_cells_used));
  kv_total_.Set(static_cast<double>(stats.kv_cells_total));
  for (Total& total : totals_) {
    const uint64_t value = stats.*total.value;
    if (value > total.counted) total.counter.Increment(static_cast<double>(value - total.counted));
    total.counted = value;
  }
}

}  // namespace cyllm
