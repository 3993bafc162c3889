// One file over HTTP(S).
#pragma once

#include <chrono>
#include <string>

#include "base/status.h"
#include "worker/models/resolver.h"

namespace cyllm {

struct DownloadOptions {
  std::string url;
  std::string token;   // sent as a bearer token to the URL's own host only, not after a redirect elsewhere
  std::string sha256;  // expected, lower-case hex; empty: as the server says (X-Linked-Etag), or unchecked
  int attempts = 5;    // tries without a byte of progress
  std::chrono::milliseconds backoff{400};  // before the second try; doubled for each further one
};

// Fetches into `path`.part (going on where an earlier try ended), checks it and renames it to `path`. Blocks.
Status Download(const DownloadOptions& options, const std::string& path, const FetchCallback& progress);

}  // namespace cyllm
