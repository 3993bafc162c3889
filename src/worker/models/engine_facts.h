// What the registry must know of an engine.
#pragma once

#include <string>
#include <vector>

namespace cyllm {

struct EngineFacts {
  std::string name;
  bool needs_model_file = true;
  std::string default_model, default_source;  // what to serve when nothing is configured
  std::vector<std::string> options;           // keys of an entry that it reads
  bool is_server = false;                     // model_path is what the server calls the model; may be absent
};

}  // namespace cyllm
