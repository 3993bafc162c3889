// cy-llm chat: a conversation in the terminal with a running server.
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <boost/json.hpp>
#include <csignal>
#include <cstdio>
#include <iostream>

#include "cli/client/http_client.h"
#include "cli/client/sse_reader.h"
#include "cli/settings/tools.h"
#include "cli/startup.h"

namespace cyllm {
namespace {

namespace json = boost::json;

std::atomic<bool> g_interrupted{false};

std::string ApiUrl(std::string url) {
  while (url.ends_with('/')) url.pop_back();
  return url + (url.ends_with("/v1") ? "" : "/v1") + "/chat/completions";
}

// "error": {"message": ...} of an answer or event, or what else can be said of it.
std::string ErrorText(std::string_view body, std::string_view otherwise) {
  boost::system::error_code ec;
  const json::value value = json::parse(body, ec);
  const json::object* object = ec ? nullptr : value.if_object();
  const json::value* error = object ? object->if_contains("error") : nullptr;
  const json::value* message =
      error && error->is_object() ? error->get_object().if_contains("message") : nullptr;
  return message && message->is_string() ? std::string(message->get_string()) : std::string(otherwise);
}

class Conversation {
 public:
  explicit Conversation(const ChatSettings& settings) : settings_(settings) { Clear(); }

  void Clear() {
    messages_.clear();
    if (!settings_.system.empty()) Add("system", settings_.system);
  }

  // Sends `text`, prints the answer as it comes, remembers both. CANCELLED: stopped by the user.
  Status Say(const std::string& text) {
    Add("user", text);
    answer_.clear();
    error_.clear();
    done_ = false;
    std::string refusal;
    SseReader reader([this](std::string_view data) { OnEvent(data); });
    const auto status = Fetch(
        {.url = ApiUrl(settings_.url), .bearer = settings_.api_token, .json = Body(), .timeout = Millis(0)},
        [&](int code, std::string_view piece) {
          if (code == 200) {
            reader.Feed(piece);
          } else if (refusal.size() < kMaxErrorBody) {
            refusal += piece;
          }
          return !g_interrupted;
        },
        [] { return g_interrupted.load(); });
    if (!answer_.empty()) {
      std::puts("");
      Add("assistant", answer_);
    } else {
      messages_.pop_back();
    }
    if (!status) return status.error();
    if (*status != 200) {
      return MakeStatus(Code::kUnknown, fmt::format("the server answered {}: {}", *status,
                                                    ErrorText(refusal, "no reason given")));
    }
    if (!error_.empty()) return MakeStatus(Code::kUnknown, error_);
    if (!done_) return Unavailable("the answer broke off");
    return Status::Ok();
  }

 private:
  static constexpr size_t kMaxErrorBody = 1 << 16;

  void Add(std::string_view role, std::string_view content) {
    messages_.push_back(json::object{{"role", role}, {"content", content}});
  }

  std::string Body() const {
    json::object body{{"model", settings_.model.empty() ? "default" : settings_.model},
                      {"messages", messages_},
                      {"stream", true}};
    if (settings_.temperature >= 0) body["temperature"] = settings_.temperature;
    if (settings_.max_tokens > 0) body["max_tokens"] = settings_.max_tokens;
    return json::serialize(body);
  }

  void OnEvent(std::string_view data) {
    if (data == "[DONE]") {
      done_ = true;
      return;
    }
    boost::system::error_code ec;
    const json::value event = json::parse(data, ec);
    if (ec || !event.is_object()) return;
    if (event.get_object().contains("error")) error_ = ErrorText(data, "the server broke off");
    const json::value* content = event.find_pointer("/choices/0/delta/content", ec);
    if (!content || !content->is_string()) return;
    const std::string_view text = content->get_string();
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
    answer_ += text;
  }

  const ChatSettings& settings_;
  json::array messages_;
  std::string answer_, error_;
  bool done_ = false;
};

int Talk(Conversation& conversation, const ChatSettings& settings) {
  const bool terminal = isatty(STDIN_FILENO) == 1;
  if (terminal) {
    fmt::print("Talking to {}. /clear begins anew, /exit or Ctrl-D ends, Ctrl-C stops an answer.\n",
               settings.url);
  }
  int exit_status = kExitOk;
  for (std::string line;;) {
    if (terminal) fmt::print("> ");
    std::fflush(stdout);
    if (!std::getline(std::cin, line) || line == "/exit") break;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    if (line == "/clear") {
      conversation.Clear();
      continue;
    }
    g_interrupted = false;
    const auto before = std::signal(SIGINT, [](int) { g_interrupted = true; });
    const Status status = conversation.Say(line);
    std::signal(SIGINT, before);
    exit_status = kExitOk;
    if (!status.ok() && status.code != Code::kCancelled) exit_status = Fail(status);
  }
  if (terminal) std::puts("");
  return exit_status;
}

}  // namespace

int RunChat(const Args& args) {
  ChatSettings values;
  Settings settings("cy-llm chat", "Talks to a running server in the terminal.");
  values.Declare(settings);
  if (const auto over = LoadSettings(settings, args)) return *over;
  Conversation conversation(values);
  if (values.once.empty()) return Talk(conversation, values);
  const Status status = conversation.Say(values.once);
  return status.ok() ? kExitOk : Fail(status);
}

}  // namespace cyllm
