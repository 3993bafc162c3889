// Going on with an answer that another server began.
#include "upstream/call.h"
#include "upstream/openai/continuation.h"
#include "upstream/openai/error.h"

namespace cyllm::upstream {

namespace {

constexpr size_t kMaxBody = 64u << 20;

}  // namespace

Task<Result<std::string>> Call::Post(HttpClient& client, Result<HttpCall> call) {
  if (!call) co_return Err(call.error());
  ClientCall post{"POST", std::move(call->path), std::move(call->body), Headers(),
                  std::min(After(Clock::now(), core_->options.probe_timeout), context_.deadline)};
  const auto answer = co_await client.Send(std::move(post));
  heard_ = Clock::now();
  if (!answer) co_return Err(answer.error());
  Result<std::string> body =
      co_await ReadAll(**answer, kMaxBody, After(heard_, core_->options.probe_timeout));
  if (body && (*answer)->status != 200)
    co_return Err(FromHttp((*answer)->status, *body, (*answer)->retry_after));
  co_return body;
}

Task<Result<HttpCall>> Call::Continue(HttpClient& client, const Profile& profile, const std::string& model) {
  const RequestFacts& facts = request_.facts;
  const PayloadParts& parts = **request_.payload->parts();
  if (Status status = CheckContinuation(profile, facts, parts, expected_.digest); !status.ok())
    co_return Err(status);
  std::vector<int32_t> ids = parts.prompt_tokens;
  if (facts.kind != Kind::kTokens) {
    std::string text;
    if (HttpCall call = TemplateCall(profile, parts); !call.path.empty()) {
      const auto made = co_await Post(client, std::move(call));
      if (!made) co_return Err(made.error());
      auto read = ReadPromptText(*made);
      if (!read) co_return Err(read.error());
      text = std::move(*read);
    }
    const auto told = co_await Post(client, PromptIdsCall(profile, model, facts, parts, text));
    if (!told) co_return Err(told.error());
    auto read = ReadPromptIds(*told);
    if (!read) co_return Err(read.error());
    ids = std::move(*read);
  }
  const auto body = co_await Post(client, DeliveredTextCall(profile, model, facts));
  if (!body) co_return Err(body.error());
  const auto delivered = ReadPromptText(*body);
  if (!delivered || !IsWhole(facts, *delivered))
    co_return Err(
        MakeStatus(Code::kFailedPrecondition, "not all tokens of the answer are known", "cannot_resume"));
  co_return ContinueCall(profile, model, facts, parts, std::move(ids), core_->ContextOf(model));
}

}  // namespace cyllm::upstream
