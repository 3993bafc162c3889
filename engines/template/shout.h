// A whole engine in little: repeats the last user message in capital letters, a word is a token. Replace what
// Speaker does by your computing; the rest of Engine can stay as it is.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <cyllm/engine.hpp>
#include <cyllm/stop_matcher.hpp>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace shout {

// What the registry entry of a model sets.
struct Options {
  uint32_t max_waiting = 64;  // requests that are taken at a time; more are refused
};

// One request, copied out of cyllm_request: nothing of that may be read after submit.
struct Request {
  struct Choice {
    explicit Choice(std::vector<std::string> stops) : stop(std::move(stops)) {}
    cyllm::sdk::StopMatcher stop;
    cyllm_offsets end{};
    bool finished = false;
  };
  uint64_t id = 0;
  std::vector<std::string> words;  // the answer
  uint32_t max_tokens = 0;
  uint64_t credit = 0;
  bool accepted = false, cancelled = false;
  std::vector<Choice> choices;
};

// The events of one step and the texts they point to, which live until the callback returns.
class Step {
 public:
  cyllm_event& Add(uint64_t id, uint32_t type, uint32_t choice = 0);
  cyllm_str Keep(std::string text);
  const int32_t* Keep(int32_t token);
  const cyllm_error* KeepError(int32_t code, std::string_view message);
  const std::vector<cyllm_event>& events() const { return events_; }

 private:
  std::vector<cyllm_event> events_;
  std::deque<std::string> texts_;
  std::deque<int32_t> tokens_;
  std::deque<cyllm_error> errors_;
};

// One thread computes; the calls of the ABI leave it notes and return at once.
class Engine {
 public:
  Engine(Options options, const cyllm_callbacks& callbacks);
  ~Engine();  // ends what runs

  int32_t Submit(const cyllm_request& request, cyllm_error* error);
  void Cancel(uint64_t id);
  void Credit(uint64_t id, uint32_t events);
  uint32_t live();
  void Drain();

 private:
  void Run();
  static bool CanGoOn(const Request& request);
  static bool Advance(Request& request, Step& step);
  static void Produce(Request& request, uint32_t index, Step& step);

  const Options options_;
  const cyllm_callbacks callbacks_;
  std::mutex mutex_;
  std::condition_variable changed_, idle_;
  std::map<uint64_t, Request> requests_;
  bool draining_ = false, stopping_ = false;
  std::thread thread_;  // the last member: all others are there when it starts
};

}  // namespace shout
