#include "inference/resume.h"

#include <algorithm>
#include <optional>
#include <random>

#include "async/signal.h"
#include "base/log.h"
#include "base/metrics.h"
#include "inference/delivered.h"
#include "inference/prefix_hash.h"

namespace cyllm {
namespace {

constexpr size_t kAvoid = 4;          // workers
constexpr Millis kEndAfterLast{200};  // what took over may take so long to end after the last Finished

struct ResumeMetrics {
  prometheus::Counter& resumed =
      Counter("resume_attempts_total", "Requests submitted again because their answer broke off");
  prometheus::Counter& recovered =
      Counter("resume_recovered_total", "Broken answers that another worker went on with");
  prometheus::Counter& failed = Counter("resume_failed_total", "Broken answers that nobody went on with");
  prometheus::Histogram& gap =
      LatencyHistogram("resume_gap_seconds", "From the loss of an answer to its next event");
};

ResumeMetrics& Metrics() {
  static ResumeMetrics metrics;
  return metrics;
}

int64_t RandomSeed() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return static_cast<int64_t>(random() >> 1);
}

// Embeddings, ranks and token lists need no state: they are made again, what was delivered is dropped.
bool IsRepeatable(Kind kind) { return kind >= Kind::kEmbed; }

class ResumeStream final : public EventSource {
 public:
  ResumeStream(std::shared_ptr<InferenceService> service, std::shared_ptr<const ResumeOptions> options,
               Request request, Context context)
      : service_(std::move(service)),
        options_(std::move(options)),
        request_(std::move(request)),
        context_(std::move(context)),
        delivered_(request_.facts.choices, options_->max_tokens),
        signal_(context_.home) {
    inner_ = service_->Infer(request_, context_);
  }

  Task<NextResult> Next(TimePoint wake_at) override {
    NextResult result;
    while (true) {
      if (over_) {
        result.what = NextResult::What::kEnd;
        result.end = end_;
        co_return result;
      }
      if (!inner_) {
        if (!co_await WaitToRetry(wake_at)) {
          result.what = NextResult::What::kTimeout;
          co_return result;
        }
        if (!over_) Submit();
        continue;
      }
      NextResult next = co_await inner_->Next(std::min(wake_at, finish_by_));
      switch (next.what) {
        case NextResult::What::kTimeout:
          if (Clock::now() >= finish_by_) {
            Finish(Status::Ok());
            continue;
          }
          woken_ = false;
          co_return next;
        case NextResult::What::kEvents:
          if (Status status = Take(next.events); !status.ok()) Lost(std::move(status));
          if (next.events.empty()) continue;
          co_return next;
        case NextResult::What::kEnd:
          Ended(std::move(next.end));
      }
    }
  }

  void Wake() override {
    woken_ = true;
    if (inner_) {
      inner_->Wake();
    } else {
      signal_.Notify();
    }
  }

 private:
  // False: woken, or `wake_at` has come.
  Task<bool> WaitToRetry(TimePoint wake_at) {
    while (!woken_ && Clock::now() < retry_at_) {
      if (Clock::now() >= context_.deadline) {
        Finish(MakeStatus(Code::kDeadlineExceeded, "The request took too long.", "timeout"));
        co_return true;
      }
      const TimePoint until = std::min({wake_at, retry_at_, context_.deadline});
      if (!co_await signal_.Wait(until) && Clock::now() >= wake_at) co_return false;
    }
    co_return !std::exchange(woken_, false);
  }

  void Submit() {
    Request request = request_;
    request.facts.resume.epoch = ++epoch_;
    if (delivered_.anything()) {
      request.facts.resume = delivered_.State(epoch_, digest_);
      if (IsRepeatable(request.facts.kind)) request.facts.resume.choices.clear();
    }
    again_ = delivered_.anything();
    auto& avoid = request.facts.avoid_workers;
    avoid.insert(avoid.end(), avoid_.begin(), avoid_.end());
    Metrics().resumed.Increment();
    accepted_now_ = false;
    tried_ = {};
    inner_ = service_->Infer(std::move(request), context_);
  }

  // Of the current attempt. An error: what it sends is of no use.
  Status Take(Batch& events) {
    Status status;
    for (const Event& event : events) {
      if (const auto* accepted = std::get_if<Accepted>(&event)) status = TakeAccepted(*accepted);
      if (const auto* tried = std::get_if<Tried>(&event)) tried_ = *tried;
    }
    std::erase_if(events, [&](const Event& e) {
      if (std::holds_alternative<Tried>(e)) return told_;
      return std::holds_alternative<Accepted>(e) && (!status.ok() || std::exchange(told_, true));
    });
    if (!status.ok()) {
      events.clear();
      return status;
    }
    status = delivered_.Take(events, again_);
    bool progress = false;
    for (Event& event : events) {
      progress |= IsDelta(event);
      if (auto* finished = std::get_if<Finished>(&event)) {
        progress = true;
        finished->resumed += resumes_;
        // An engine may know it only now. What the first one found is what the request had, if it told.
        if (!cached_tokens_) cached_tokens_ = finished->usage.cached_tokens;
        if (epoch_ == 0) continue;
        finished->usage_chunk.clear();
        finished->usage.prompt_tokens = prompt_tokens_;
        finished->usage.cached_tokens = std::min(*cached_tokens_, prompt_tokens_);
      }
    }
    if (progress) Progressed();
    if (epoch_ > 0 && delivered_.finished()) finish_by_ = Clock::now() + kEndAfterLast;
    return status;
  }

  Status TakeAccepted(const Accepted& accepted) {
    const uint32_t attempts = std::exchange(attempts_, accepted.route.attempts);
    if (accepted_now_ && attempts_ > attempts) {  // the fleet has gone on by itself: the one before is lost
      LoseWorkers(attempts_ - attempts, worker_);
      if (losses_ >= options_->max_losses) return Unavailable("the connection was lost", "connection_lost");
    }
    worker_ = accepted.worker;
    accepted_now_ = true;
    if (!delivered_.anything()) {
      digest_ = accepted.digest;
      resumable_ = accepted.resumable;
    } else if (accepted.digest != digest_) {
      Status status = MakeStatus(Code::kFailedPrecondition, "another model took over", "cannot_resume");
      status.retryable = true;
      return status;
    }
    if (!told_) {
      prompt_tokens_ = accepted.prompt_tokens;
      if (accepted.cached_tokens > 0) cached_tokens_ = accepted.cached_tokens;
    }
    return Status::Ok();
  }

  void Progressed() {
    losses_ = failures_ = 0;
    if (lost_at_ == kNever) return;
    const auto gap = Clock::now() - std::exchange(lost_at_, kNever);
    Metrics().recovered.Increment();
    Metrics().gap.Observe(std::chrono::duration<double>(gap).count());
    Log()->info("{} goes on at '{}' after {} ms", context_.request_id, worker_,
                std::chrono::duration_cast<Millis>(gap).count());
  }

  void Ended(Status end) {
    // All that was asked for has come: how the connection ended is nobody's concern.
    if (delivered_.finished()) return Finish(Status::Ok());
    if (end.ok()) end = MakeStatus(Code::kDataLoss, "The answer broke off.", "stream_interrupted");
    Lost(std::move(end));
  }

  bool MayGoOn(const Status& end) const {
    const bool lost = end.retryable || end.code == Code::kDataLoss;
    if (!told_ && lost_at_ == kNever) return end.reason == "connection_lost" || end.reason == "not_connected";
    if (!lost) return false;
    if (!delivered_.anything()) return true;
    if (digest_.empty()) return false;
    return IsRepeatable(request_.facts.kind) || (resumable_ && delivered_.complete_ids());
  }

  void LoseWorkers(uint32_t count, const std::string& last) {
    losses_ += count;
    if (!last.empty()) avoid_.push_back(last);
    if (avoid_.size() > kAvoid) avoid_.erase(avoid_.begin());
  }

  void Lost(Status end) {
    inner_.reset();
    // Before Accepted, only who is in front of workers can name one: a coordinator's own death is not theirs.
    const bool died_before = !accepted_now_ && end.reason == "connection_lost" && !tried_.worker.empty();
    if (lost_at_ == kNever) {
      if (!MayGoOn(end)) return Finish(std::move(end));
      lost_at_ = Clock::now();
      end_ = std::move(end);
      ++resumes_;
    } else if (!MayGoOn(end)) {
      return GiveUp();
    }
    ++failures_;
    if (accepted_now_) LoseWorkers(1, worker_);
    if (died_before) LoseWorkers(tried_.route.attempts, tried_.worker);
    const TimePoint now = Clock::now();
    if (losses_ >= options_->max_losses || resumes_ > options_->max_resumes ||
        now - lost_at_ >= options_->patience || now >= context_.deadline) {
      return GiveUp();
    }
    if (failures_ == 1)
      Log()->info("{} lost '{}', is submitted again: {}", context_.request_id, worker_, end_.ToString());
    Millis wait{0};
    if (failures_ > 1) {
      wait = options_->backoff_min * (1u << std::min(failures_ - 2, 10u));
      wait = std::min(wait, options_->backoff_max);
    }
    retry_at_ = now + wait;
  }

  // With what broke the answer: what the attempts to go on met says less.
  void GiveUp() {
    Metrics().failed.Increment();
    Log()->warn("{} could not be resumed: {}", context_.request_id, end_.ToString());
    Finish(std::move(end_));
  }

  void Finish(Status end) {
    over_ = true;
    inner_.reset();
    end_ = std::move(end);
  }

  const std::shared_ptr<InferenceService> service_;
  const std::shared_ptr<const ResumeOptions> options_;
  const Request request_;
  const Context context_;
  Delivered delivered_;
  Signal signal_;
  EventStream inner_;
  bool woken_ = false, over_ = false;
  bool told_ = false;          // the client has its Accepted
  bool accepted_now_ = false;  // the current attempt has
  bool resumable_ = false;
  bool again_ = false;  // the current attempt goes on with what was delivered
  std::string digest_, worker_;
  uint32_t prompt_tokens_ = 0;             // as first told
  std::optional<uint32_t> cached_tokens_;  // as first told, by an Accepted that has some or a Finished
  Tried tried_;                            // of the current attempt, where it ended before Accepted
  uint32_t attempts_ = 0;                  // of its last Accepted
  std::vector<std::string> avoid_;
  uint32_t epoch_ = 0;
  uint32_t resumes_ = 0;                   // losses that were, or are being, repaired
  uint32_t losses_ = 0, failures_ = 0;     // in a row
  TimePoint lost_at_ = kNever;             // kNever: all is well
  TimePoint retry_at_ = TimePoint::min();  // with !inner_
  TimePoint finish_by_ = kNever;
  Status end_;  // over_: how it ended; else: what broke it
};

}  // namespace

Resume::Resume(std::shared_ptr<InferenceService> inner, ResumeOptions options)
    : inner_(std::move(inner)), options_(std::make_shared<const ResumeOptions>(std::move(options))) {}

EventStream Resume::Infer(Request request, Context context) {
  RequestFacts& facts = request.facts;
  if (!facts.seed) facts.seed = options_->seed ? options_->seed() : RandomSeed();
  if (facts.prefix_hashes.empty()) {
    if (const auto parts = request.payload->parts()) facts.prefix_hashes = PrefixHashes(facts, **parts);
  }
  return std::make_unique<ResumeStream>(inner_, options_, std::move(request), std::move(context));
}

}  // namespace cyllm
