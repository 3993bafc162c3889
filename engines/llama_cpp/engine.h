// The engine: a scheduler on a thread of its own, fed from any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "llama_cpp/aside.h"
#include "llama_cpp/chat_template.h"
#include "llama_cpp/cores.h"
#include "llama_cpp/decoder.h"
#include "llama_cpp/events.h"
#include "llama_cpp/large_thread.h"
#include "llama_cpp/prompt_lane.h"
#include "llama_cpp/request.h"
#include "llama_cpp/scheduler.h"
#include "llama_cpp/vocabulary.h"
#include "sdk/engine.h"

namespace cyllm::llama {

struct EngineLimits {
  uint32_t prefill_chunk;
  uint32_t max_waiting;
  double target_itl_ms = 100;
  bool prefix_caching = true;
  bool speculation = true;
};

// Thread-safe; no call blocks but Drain and the destructor. Its threads: one renders and tokenises prompts,
// one computes, one answers what generates no text (Aside), and with `prompts` one computes prompts while
// others decode (PromptLane). What reading a prompt or choosing a token throws ends its request only. The
// decoders, `vocabulary` and `chat` are used by these threads only, and outlive the engine.
class Engine {
 public:
  Engine(Decoder& decoder, const Vocabulary& vocabulary, const ChatTemplate& chat, EngineLimits limits,
         const cyllm_callbacks& callbacks, AsideModel aside = {}, Decoder* prompts = nullptr);
  ~Engine();  // ends what still runs

  int32_t Submit(const cyllm_request& in, cyllm_error* error);
  void Cancel(uint64_t id);
  void Credit(uint64_t id, uint32_t events);
  void Drain();
  cyllm_stats Stats() const;

 private:
  struct Command {
    uint64_t id;
    uint32_t credit;  // 0: cancel
  };
  struct Early {  // commands for a request whose prompt is not ready yet
    bool cancelled = false;
    uint32_t credit = 0;
  };
  struct Mail {
    std::vector<std::unique_ptr<Request>> ready;
    std::vector<std::pair<uint64_t, cyllm_error>> refused;
    std::vector<Command> commands;
    bool empty() const { return ready.empty() && refused.empty() && commands.empty(); }
  };

  void Prepare();  // of the first thread
  bool Fill(Request* request, cyllm_error* error);
  void Run();  // of the second
  void Land();
  void Accept(Mail mail);
  void Obey(const Command& command);
  void Step();
  void EndAll();
  void Deliver();
  void Tell(const std::vector<cyllm_event>& events);
  int32_t SubmitAside(const cyllm_request& in, cyllm_error* error);

  Decoder& decoder_;
  const Vocabulary& vocabulary_;
  const ChatTemplate& chat_;
  const cyllm_callbacks callbacks_;
  const uint32_t max_requests_;

  mutable std::mutex mutex_;
  std::condition_variable mail_came_, prompt_came_, idle_;
  Mail mail_;
  std::deque<std::unique_ptr<Request>> prompts_;  // not yet rendered
  std::unordered_set<uint64_t> live_;             // submitted, END not delivered
  std::unordered_set<uint64_t> in_step_;          // being computed and not cancelled
  std::atomic<bool> abort_ = false;               // nobody wants the running step any more
  bool draining_ = false, stopping_ = false;
  bool landing_ = false;  // the prompt lane has a result
  SchedulerStats stats_;

  std::unique_ptr<TokenIndex> index_;  // made by the first thread when first needed

  Cores cores_;
  std::unique_ptr<PromptLane> lane_;  // null: there is none

  // Of the computing thread.
  Scheduler scheduler_;
  Events events_;
  std::unordered_map<uint64_t, Early> early_;

  std::mutex telling_;  // callbacks are serial
  std::unique_ptr<Aside> aside_;

  LargeThread preparing_;
  std::thread computing_, prompting_;
};

}  // namespace cyllm::llama
