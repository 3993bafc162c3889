#include "inference/prefix_hash.h"

#include <bit>
#include <cstring>

namespace cyllm {
namespace {

// The odd constants are the first digits of pi and e, in hexadecimal.
constexpr uint64_t kA = 0x243f6a8885a308d3, kB = 0xb7e151628aed2a6b, kC = 0x13198a2e03707345;

uint64_t Fold(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t Word(const char* p) {
  uint64_t word;
  std::memcpy(&word, p, sizeof word);
  if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
  return word;
}

// The blocks of what is fed to it, piece by piece.
class Blocks {
 public:
  Blocks(uint64_t state, std::vector<uint64_t>* out) : state_(state), out_(out) {}

  void Feed(std::string_view bytes) {
    while (!bytes.empty() && out_->size() < kMaxPrefixBlocks) {
      if (fill_ == 0 && bytes.size() >= kPrefixBlock) {
        Add(bytes.data());
        bytes.remove_prefix(kPrefixBlock);
        continue;
      }
      const size_t n = std::min(bytes.size(), kPrefixBlock - fill_);
      std::memcpy(block_ + fill_, bytes.data(), n);
      fill_ += n;
      bytes.remove_prefix(n);
      if (fill_ == kPrefixBlock) {
        fill_ = 0;
        Add(block_);
      }
    }
  }

 private:
  void Add(const char* block) {
    state_ = Hash64({block, kPrefixBlock}, state_);
    out_->push_back(state_);
  }

  uint64_t state_;
  std::vector<uint64_t>* const out_;
  char block_[kPrefixBlock];
  size_t fill_ = 0;
};

}  // namespace

uint64_t Mix64(uint64_t a, uint64_t b) { return Fold(Fold(a ^ kA, b ^ kB) ^ kC, a + kB); }

uint64_t Hash64(std::string_view bytes, uint64_t seed) {
  uint64_t a = seed ^ kA, b = seed + kB;
  const size_t size = bytes.size();
  for (; bytes.size() >= 16; bytes.remove_prefix(16)) {
    a = Fold(a ^ Word(bytes.data()), kB);
    b = Fold(b ^ Word(bytes.data() + 8), kC);
  }
  char rest[16] = {};
  std::memcpy(rest, bytes.data(), bytes.size());
  a = Fold(a ^ Word(rest), kC);
  b = Fold(b ^ Word(rest + 8), kA);
  return Mix64(a ^ size, b);
}

std::vector<uint64_t> PrefixHashes(const RequestFacts& facts, const PayloadParts& parts) {
  std::vector<uint64_t> hashes;
  uint64_t head = Mix64(kPrefixHashVersion, static_cast<uint64_t>(facts.kind));
  for (const std::string* part : {&facts.model, &facts.adapter, &parts.template_kwargs_json})
    head = Hash64(*part, head);
  Blocks blocks(head, &hashes);
  hashes.reserve((parts.tools_json.size() + parts.messages_json.size() + parts.prompt.size() +
                  4 * parts.prompt_tokens.size()) /
                     kPrefixBlock +
                 1);
  blocks.Feed(parts.tools_json);
  blocks.Feed(parts.messages_json);
  blocks.Feed(parts.prompt);
  blocks.Feed({reinterpret_cast<const char*>(parts.prompt_tokens.data()),
               parts.prompt_tokens.size() * sizeof(int32_t)});
  return hashes;
}

}  // namespace cyllm
