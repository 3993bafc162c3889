// Requests for a model whose server or process is still to come.
#pragma once

#include <memory>
#include <string>

#include "inference/service.h"

namespace cyllm {

// What is being started, as those who wait see it. Thread-safe.
class Startable {
 public:
  virtual ~Startable() = default;
  virtual void StartLoad() = 0;        // unless it is started, or cannot be now
  virtual bool Usable() const = 0;     // requests can be sent
  virtual Status Trouble() const = 0;  // why waiting is of no use now; OK: it may help
  virtual EventStream Send(Request request, Context context) = 0;
};

// Starts `id` and says so, waits until it is usable, then is its stream; ends with its trouble. What is
// stopped while somebody waits for it is started again.
EventStream WaitForStart(std::shared_ptr<Startable> startable, std::string id, Request request,
                         Context context);

}  // namespace cyllm
