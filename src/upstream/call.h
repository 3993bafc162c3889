// One request on its way: a coroutine that sends it and reads its answer, and the stream that is pulled. Both
// on the request's home.
#pragma once

#include "upstream/core.h"
#include "upstream/openai/answer.h"
#include "upstream/openai/request.h"

namespace cyllm::upstream {

class Call : public std::enable_shared_from_this<Call> {
 public:
  Call(std::shared_ptr<Upstream::Core> core, Request request, Context context);

  // On home only.
  Task<NextResult> Next(TimePoint wake_at);
  void Wake();
  void Leave();                  // the reader is gone
  void Fail(const Status& why);  // ends it for the reader, and what it still does

  const Executor& home() const { return context_.home; }
  TimePoint heard() const { return heard_; }  // of the server, last; on home only

 private:
  void Start();
  Task<> Run();
  Task<Status> Ask();
  // continue.cc. For a request that was begun elsewhere.
  Task<Result<HttpCall>> Continue(HttpClient& client, const Profile& profile, const std::string& model);
  Task<Result<std::string>> Post(HttpClient& client, Result<HttpCall> call);

  Task<Status> ReadStream(ClientAnswer& answer);
  Task<Status> ReadWhole(ClientAnswer& answer);
  Task<> Wanted();
  void Push(Batch events);
  void Cancel();
  void Settle(const Status& status);  // how the server ended it
  void End(Status status);
  std::string Headers() const;

  const std::shared_ptr<Upstream::Core> core_;
  const Request request_;
  const Context context_;
  const TimePoint begun_;
  TimePoint heard_;
  Signal news_, demand_;
  boost::asio::cancellation_signal stop_;
  Batch events_;
  Status end_;
  AnswerOptions expected_;  // of a streamed one
  bool started_ = false, ended_ = false, stopped_ = false, wanted_ = false, woken_ = false;
};

EventStream StreamOf(std::shared_ptr<Call> call);

}  // namespace cyllm::upstream
