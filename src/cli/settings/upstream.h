// Settings of model servers behind `cy-llm serve --upstream`.
#pragma once

#include <string>
#include <vector>

#include "base/config.h"

namespace cyllm {

struct UpstreamSettings {
  std::vector<std::string> urls;
  std::string api_key;
  std::string ca, cert, key;  // PEM files
  double silence_limit = 60;  // seconds

  void Declare(Settings& settings);
};

}  // namespace cyllm
