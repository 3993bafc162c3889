// What is answered beside the generating of text: embeddings, ranks, tokens of texts and texts of tokens.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "llama_cpp/chat_template.h"
#include "llama_cpp/cores.h"
#include "llama_cpp/embedder.h"
#include "llama_cpp/events.h"
#include "llama_cpp/large_thread.h"
#include "llama_cpp/vocabulary.h"
#include "sdk/engine.h"

namespace cyllm::llama {

// What Aside needs of a model; an embedder is made when it is first needed.
struct AsideModel {
  std::function<std::unique_ptr<Embedder>(std::string* error)> make_embedder;  // null: cannot embed
  bool ranks = false;
};

// Thread-safe; no call blocks but the destructor, which ends what is left. One thread. Short requests
// (tokens) come first, then lower priority numbers; equals take turns, one run of the embedder each. What
// throws ends its own request only. `vocabulary`, `chat` and `cores` outlive it.
class Aside {
 public:
  // Called on its thread; the events hold for the call.
  using Deliver = std::function<void(const std::vector<cyllm_event>&)>;

  Aside(AsideModel model, const Vocabulary& vocabulary, const ChatTemplate& chat, Cores& cores,
        Deliver deliver);
  ~Aside();

  static bool IsFor(uint32_t kind) { return kind > CYLLM_KIND_TOKENS; }

  // CYLLM_OK: taken, END will follow. Else refused.
  int32_t Submit(const cyllm_request& in, cyllm_error* error);
  // False: no request of it.
  bool Cancel(uint64_t id);
  bool Credit(uint64_t id, uint32_t events);

  uint64_t steps() const { return steps_; }

 private:
  struct Job {
    uint64_t id = 0;
    uint32_t kind = 0, dimensions = 0;
    int32_t priority = 0;
    bool special = true;        // TOKENIZE: with what prompts begin with
    bool pieces = false;        // TOKENIZE: with the bytes of each token
    ChatInput chat;             // TOKENIZE
    std::string text;           // TOKENIZE; RERANK: the query
    std::vector<Token> tokens;  // DETOKENIZE
    std::vector<std::pair<std::string, std::vector<Token>>> inputs;
    std::vector<std::vector<Token>> prepared;  // of the inputs
    size_t done = 0;                           // inputs whose values are told
    uint64_t credit = 0;
    bool cancelled = false, started = false;
  };

  void Run();
  std::shared_ptr<Job> Choose();
  void Work(Job* job);
  void Tokens(const Job& job);
  std::vector<Token> Tokenize(const std::string& text, bool begin) const;
  void Begin(Job* job);
  void Values(Job* job);
  void Finish(const Job& job);
  void End(const Job& job, int32_t code, std::string_view message, std::string_view reason = {},
           std::string_view param = {});
  bool Wanted(const Job& job);

  const AsideModel model_;
  const Vocabulary& vocabulary_;
  const ChatTemplate& chat_;
  Cores& cores_;
  const Deliver deliver_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Job>> jobs_;
  bool stopping_ = false;
  std::atomic<uint64_t> steps_ = 0;

  // Of the thread.
  std::unique_ptr<Embedder> embedder_;
  Events events_;
  LargeThread thread_;
};

}  // namespace cyllm::llama
