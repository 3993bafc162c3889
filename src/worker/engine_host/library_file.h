// What a shared library says of itself, read as a file: nothing of it is loaded or run.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace cyllm {

struct LibraryFile {
  std::string machine;               // "x86_64", "aarch64", or ELF's number
  std::string glibc;                 // the newest version that it asks for, "2.36"; empty: none
  std::vector<std::string> needs;    // names of libraries
  std::vector<std::string> folders;  // where it wants them looked for first
};

// FAILED_PRECONDITION: not there, or no shared library for 64-bit Linux.
Result<LibraryFile> ReadLibraryFile(const std::string& path);

// Why the library cannot be loaded here, a sentence each: it is not there, it is of another machine, it or
// one that it needs wants a library that is not found or a newer C library. Empty: nothing stands against it.
std::vector<std::string> WhyNotLoadable(const std::string& path);

// "2.4" before "2.36".
bool OlderVersion(const std::string& a, const std::string& b);

}  // namespace cyllm
