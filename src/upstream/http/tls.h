// TLS toward servers: their certificate is always checked, against the system's authorities or a given one.
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <memory>
#include <string>

#include "base/status.h"

namespace cyllm {

// Paths of PEM files; empty: none.
struct TlsFiles {
  std::string ca;         // authorities, instead of the system's
  std::string cert, key;  // our own, where the server asks for one
};

// Thread-safe once made. INVALID_ARGUMENT naming the file that cannot be used.
Result<std::shared_ptr<boost::asio::ssl::context>> MakeTls(const TlsFiles& files);

}  // namespace cyllm
