// The REST admin API of a coordinator, apart from HTTP: GET and POST /workers, GET, PUT, PATCH and DELETE
// /workers/{id}. Additions, drains and removals answer 202; GET shows how far they are (`is_healthy`,
// `job_status`).
//
//   POST /workers {"url": "host:port"}             202; 409 when it is there; 400 when it is no address
//   PUT|PATCH /workers/{id} {"draining": true, "deadline_s": 30}   202; {"draining": false} undoes it
//   DELETE /workers/{id}[?deadline_s=30]           202: drains, moves what is left, then forgets it
//
// {id} is the id of the list, or the worker's name or address (escaped).
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "base/status.h"
#include "inference/grpc_server.h"

namespace cyllm {

class Coordinator;

struct AdminReply {
  int http = 200;
  std::string body;  // JSON
};

// `target`: path and query. Blocks for a moment at most. Thread-safe.
AdminReply Admin(Coordinator& coordinator, std::string_view method, std::string_view target,
                 std::string_view body);

// The same through Control: payload `method`, `target`, `body`; answer `http`, `body`. How a gateway asks.
ControlReply AdminControl(Coordinator& coordinator, const std::map<std::string, std::string>& payload);

}  // namespace cyllm
