#include <cstdio>

#include "cli/command.h"

namespace cyllm {

int RunVersion(const Args&) {
  std::puts("cy-llm " CY_VERSION);
  return kExitOk;
}

}  // namespace cyllm
