// Names for the beginnings of a prompt, so that routing can tell which worker holds them: the prompt (model,
// adapter, template arguments and tools, then messages or text or tokens) in blocks of 256 bytes, each hashed
// together with all before it. Equal hashes mean equal beginnings. Computed once, at the edge; it travels in
// RequestFacts::prefix_hashes.
//
// Version 1: 64 bits by folded 128-bit multiplication, fixed seed, little-endian; the same on every machine
// and in every release that says version 1, so that replicas rank workers alike without talking.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "inference/request.h"

namespace cyllm {

inline constexpr uint32_t kPrefixHashVersion = 1;
inline constexpr size_t kPrefixBlock = 256;        // bytes
inline constexpr size_t kMaxPrefixBlocks = 4'096;  // hashed at most: 1 MiB of prompt

// Whole blocks only: a prompt shorter than one has none.
std::vector<uint64_t> PrefixHashes(const RequestFacts& facts, const PayloadParts& parts);

// Of any bytes; what policies rank with.
uint64_t Hash64(std::string_view bytes, uint64_t seed = 0);
// Of two numbers: a worker's score for a key (rendezvous hashing).
uint64_t Mix64(uint64_t a, uint64_t b);

}  // namespace cyllm
