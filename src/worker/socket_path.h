// Names for Unix sockets between this process and its children.
#pragma once

#include <string>

namespace cyllm {

// A new one at each call, in $XDG_RUNTIME_DIR or $TMPDIR. Short: a socket's path has 107 bytes.
std::string SocketPath();

}  // namespace cyllm
