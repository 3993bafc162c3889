// An adapter's file: a LoRA as GGUF.
#pragma once

#include <cstdio>
#include <memory>
#include <string>

namespace cyllm::llama {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using FilePtr = std::unique_ptr<std::FILE, CloseFile>;

// The adapter as llama.cpp is to read it, for a model of this architecture. Null and what is wrong with the
// file ("cannot be read") on failure.
//
// `exact`: such that a row's result does not depend on how many rows there are beside it (README.md, Equal
// texts). On a CPU ggml multiplies floating-point matrices otherwise for one row than for several, unless
// their size is odd: ranks that are multiples of 4 get one more, of zeros. Factors are multiplied in, because
// they are given by rank.
FilePtr OpenAdapter(const std::string& path, const std::string& architecture, bool exact, std::string* why);

}  // namespace cyllm::llama
