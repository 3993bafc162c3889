#include "coordinator/admin.h"

#include <boost/json.hpp>
#include <charconv>

#include "coordinator/coordinator.h"

namespace cyllm {
namespace {

namespace json = boost::json;

AdminReply Reply(int http, const json::object& body) { return {http, json::serialize(body)}; }

AdminReply Refuse(const Status& status) {
  int http = 400;
  if (status.code == Code::kNotFound) http = 404;
  if (status.code == Code::kAlreadyExists) http = 409;
  if (status.code == Code::kUnavailable) http = 503;
  return Reply(http, {{"error", {{"message", status.message}, {"code", status.reason}}}});
}

json::object ToJson(const WorkerStatus& worker) {
  json::object out = {{"id", worker.id},
                      {"url", worker.name},
                      {"name", worker.process},
                      {"connection", worker.kind},
                      {"is_healthy", worker.healthy},
                      {"job_status", worker.job},
                      {"circuit_breaker", worker.suspect ? "open" : "closed"},
                      {"inflight", worker.inflight},
                      {"load", worker.load},
                      {"capacity", worker.capacity},
                      {"served", worker.served},
                      {"failed", worker.failed},
                      {"models", json::array(worker.models.begin(), worker.models.end())}};
  if (worker.drain_left >= Millis(0))
    out["drain_left_s"] = static_cast<double>(worker.drain_left.count()) / 1000;
  return out;
}

AdminReply ReplyWith(int http, const Result<WorkerStatus>& worker) {
  return worker ? Reply(http, ToJson(*worker)) : Refuse(worker.error());
}

std::string Unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(&text[i + 1], &text[i + 3], value, 16).ptr == &text[i + 3]) {
      out += static_cast<char>(value);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

constexpr double kWeek = 7 * 86'400;

Result<Millis> Deadline(double seconds) {
  if (!(seconds >= 0 && seconds <= kWeek))
    return Err(InvalidArgument("deadline_s must be a number of seconds, a week at most", "deadline_s"));
  return Millis(static_cast<int64_t>(seconds * 1000));
}

// The keys that are allowed, or an error that names the one that is not.
Result<json::object> ReadBody(std::string_view body, std::initializer_list<std::string_view> keys) {
  boost::system::error_code error;
  json::parse_options options;
  options.max_depth = 8;
  const json::value value = json::parse(body, error, {}, options);
  if (error || !value.is_object()) return Err(InvalidArgument("the body must be a JSON object"));
  for (const auto& entry : value.get_object()) {
    if (std::ranges::find(keys, std::string_view(entry.key())) == keys.end())
      return Err(InvalidArgument("unknown key '" + std::string(entry.key()) + "'", std::string(entry.key())));
  }
  return value.get_object();
}

AdminReply List(Coordinator& coordinator) {
  json::array workers;
  size_t healthy = 0;
  for (const WorkerStatus& worker : coordinator.workers().List()) {
    healthy += worker.healthy;
    workers.push_back(ToJson(worker));
  }
  const size_t total = workers.size();
  return Reply(200, {{"workers", std::move(workers)}, {"total", total}, {"healthy", healthy}});
}

AdminReply Add(Coordinator& coordinator, std::string_view body) {
  const auto read = ReadBody(body, {"url"});
  if (!read) return Refuse(read.error());
  const json::value* url = read->if_contains("url");
  if (!url || !url->is_string()) return Refuse(InvalidArgument("'url' must be a worker's address", "url"));
  std::string address(url->get_string());
  for (const std::string_view scheme : {"grpc://", "http://"})
    if (address.starts_with(scheme)) address.erase(0, scheme.size());
  const auto canonical = coordinator.options().canonical_address
                             ? coordinator.options().canonical_address(address)
                             : Result<std::string>(address);
  if (!canonical) return Refuse(canonical.error());
  return ReplyWith(202, coordinator.workers().Dial(*canonical));
}

AdminReply Change(Coordinator& coordinator, const std::string& id, std::string_view body) {
  const auto read = ReadBody(body, {"draining", "deadline_s"});
  if (!read) return Refuse(read.error());
  const json::value* draining = read->if_contains("draining");
  if (!draining || !draining->is_bool())
    return Refuse(InvalidArgument("'draining' must be true or false", "draining"));
  Millis deadline = coordinator.options().drain;
  if (const json::value* given = read->if_contains("deadline_s")) {
    boost::system::error_code error;
    const double seconds = given->is_number() ? given->to_number<double>(error) : -1;
    const auto checked = Deadline(seconds);
    if (!checked) return Refuse(checked.error());
    deadline = *checked;
  }
  WorkerSet& workers = coordinator.workers();
  return ReplyWith(202, draining->get_bool() ? workers.Drain(id, deadline) : workers.Undrain(id));
}

AdminReply Remove(Coordinator& coordinator, const std::string& id, std::string_view query) {
  Millis deadline = coordinator.options().drain;
  if (!query.empty()) {
    constexpr std::string_view kKey = "deadline_s=";
    double seconds = -1;
    if (query.starts_with(kKey)) {
      query.remove_prefix(kKey.size());
      if (std::from_chars(query.data(), query.data() + query.size(), seconds).ptr !=
          query.data() + query.size())
        seconds = -1;
    }
    const auto checked = Deadline(seconds);
    if (!checked) return Refuse(checked.error());
    deadline = *checked;
  }
  return ReplyWith(202, coordinator.workers().Remove(id, deadline));
}

}  // namespace

AdminReply Admin(Coordinator& coordinator, std::string_view method, std::string_view target,
                 std::string_view body) {
  const size_t mark = std::min(target.find('?'), target.size());
  const std::string_view path = target.substr(0, mark);
  const std::string_view query = mark < target.size() ? target.substr(mark + 1) : std::string_view();
  constexpr std::string_view kWorkers = "/workers";
  const AdminReply not_allowed = Reply(405, {{"error", {{"message", "this method is not allowed here"}}}});
  if (path == kWorkers || path == "/workers/") {
    if (method == "GET") return List(coordinator);
    if (method == "POST") return Add(coordinator, body);
    return not_allowed;
  }
  if (!path.starts_with("/workers/"))
    return Reply(404, {{"error", {{"message", "known: /workers, /workers/{id}"}}}});
  const std::string id = Unescaped(path.substr(kWorkers.size() + 1));
  if (method == "GET") return ReplyWith(200, coordinator.workers().Find(id));
  if (method == "PUT" || method == "PATCH") return Change(coordinator, id, body);
  if (method == "DELETE") return Remove(coordinator, id, query);
  return not_allowed;
}

ControlReply AdminControl(Coordinator& coordinator, const std::map<std::string, std::string>& payload) {
  const auto get = [&](const char* key) {
    const auto it = payload.find(key);
    return it == payload.end() ? std::string() : it->second;
  };
  AdminReply reply = Admin(coordinator, get("method"), get("target"), get("body"));
  return {{"status", "ok"}, {"http", std::to_string(reply.http)}, {"body", std::move(reply.body)}};
}

}  // namespace cyllm
