// cy-llm workers: what an operator does with the workers of a coordinator.
#include <fmt/format.h>

#include <boost/json.hpp>
#include <thread>

#include "cli/client/http_client.h"
#include "cli/settings/tools.h"
#include "cli/startup.h"

namespace cyllm {
namespace {

namespace json = boost::json;

struct Answer {
  int http = 0;
  std::string text;
  json::object body;
};

class Client {
 public:
  explicit Client(const WorkersSettings& settings) : settings_(settings) {}

  // An answer of 2xx.
  Result<Answer> Ask(const std::string& method, const std::string& path, const json::object& body = {}) {
    Answer answer;
    HttpCall call;
    call.url = settings_.url.substr(0, settings_.url.find_last_not_of('/') + 1) + path;
    call.bearer = settings_.admin_key;
    if (!body.empty()) call.json = json::serialize(body);
    call.method = method;
    call.timeout = Millis(30'000);
    const auto status = Fetch(call, [&](int, std::string_view piece) {
      answer.text += piece;
      return answer.text.size() < (64u << 20);
    });
    if (!status) return Err(status.error());
    answer.http = *status;
    boost::system::error_code error;
    const json::value value = json::parse(answer.text, error);
    if (!error && value.is_object()) answer.body = value.get_object();
    if (answer.http / 100 == 2 && !answer.body.empty()) return answer;
    const json::value* message = nullptr;
    if (const json::value* failure = answer.body.if_contains("error"); failure && failure->is_object())
      message = failure->get_object().if_contains("message");
    return Err(MakeStatus(answer.http == 404 ? Code::kNotFound : Code::kUnknown,
                          message && message->is_string()
                              ? std::string(message->get_string())
                              : fmt::format("{}: status {}", call.url, answer.http)));
  }

 private:
  const WorkersSettings& settings_;
};

std::string Text(const json::object& worker, const char* key) {
  const json::value* value = worker.if_contains(key);
  if (!value) return "";
  if (value->is_string()) return std::string(value->get_string());
  if (!value->is_array()) return json::serialize(*value);
  std::string all;
  for (const json::value& item : value->get_array())
    if (item.is_string()) all += (all.empty() ? "" : ",") + std::string(item.get_string());
  return all;
}

void PrintRow(const json::object& worker) {
  fmt::print("{:<16}  {:<28}  {:<10}  {:>8}  {:>6}  {}\n", Text(worker, "id"), Text(worker, "url"),
             Text(worker, "job_status"), Text(worker, "inflight"), Text(worker, "load"),
             Text(worker, "models"));
}

void PrintHead() {
  fmt::print("{:<16}  {:<28}  {:<10}  {:>8}  {:>6}  {}\n", "ID", "WORKER", "STATUS", "INFLIGHT", "LOAD",
             "MODELS");
}

std::string Escaped(const std::string& text) {
  std::string out;
  for (const unsigned char c : text) {
    if (std::isalnum(c) || c == '-' || c == '.' || c == '_') {
      out += static_cast<char>(c);
    } else {
      out += fmt::format("%{:02X}", c);
    }
  }
  return out;
}

// Until the drain or the removal is done; progress on stderr.
Status Wait(Client& client, const std::string& path, bool removal) {
  std::string told;
  while (true) {
    const auto answer = client.Ask("GET", path);
    if (!answer) return removal && answer.error().code == Code::kNotFound ? Status::Ok() : answer.error();
    const std::string now =
        Text(answer->body, "job_status") + ", " + Text(answer->body, "inflight") + " in flight";
    if (now != told) fmt::print(stderr, "{}\n", now);
    told = now;
    if (!removal && Text(answer->body, "job_status") != "draining") return Status::Ok();
    std::this_thread::sleep_for(Millis(200));
  }
}

}  // namespace

int RunWorkers(const Args& args) {
  WorkersSettings values;
  Settings settings("cy-llm workers", "Lists, adds, drains and removes the workers of a coordinator.");
  values.Declare(settings);
  if (const auto over = LoadSettings(settings, args)) return *over;
  const bool drain = values.verb == "drain", undrain = values.verb == "undrain";
  const bool add = values.verb == "add", remove = values.verb == "remove";
  if (values.verb != "list" && !drain && !undrain && !add && !remove)
    return Fail(InvalidArgument("'" + values.verb + "': list, add, remove, drain or undrain"), kExitUsage);
  if (values.verb != "list" && values.worker.empty())
    return Fail(InvalidArgument(values.verb + ": which worker?"), kExitUsage);

  Client client(values);
  const std::string path = "/workers/" + Escaped(values.worker);
  Result<Answer> answer;
  if (add) {
    answer = client.Ask("POST", "/workers", {{"url", values.worker}});
  } else if (remove) {
    answer = client.Ask("DELETE", path + fmt::format("?deadline_s={}", values.deadline));
  } else if (drain || undrain) {
    json::object body = {{"draining", drain}};
    if (drain) body["deadline_s"] = values.deadline;
    answer = client.Ask("PATCH", path, body);
  } else {
    answer = client.Ask("GET", "/workers");
  }
  if (!answer) return Fail(answer.error());
  if (values.json) {
    fmt::print("{}\n", answer->text);
  } else {
    PrintHead();
    if (const json::value* workers = answer->body.if_contains("workers"); workers && workers->is_array()) {
      for (const json::value& worker : workers->get_array())
        if (worker.is_object()) PrintRow(worker.get_object());
    } else {
      PrintRow(answer->body);
    }
  }
  if (values.wait && (drain || remove)) {
    if (const Status status = Wait(client, path, remove); !status.ok()) return Fail(status);
  }
  return kExitOk;
}

}  // namespace cyllm
