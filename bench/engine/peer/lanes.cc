// Two cores: one for decoding and one for prompts, against both for one after the other.
//
//   lanes MODEL.gguf [length [rounds]]
//
// Each round measures, for 2 seconds each: decoding with both threads; prompt chunks with both; then both at
// the same time with one thread each. Printed is what the two lanes do together as a share of what the
// machine would do in turns: 1 is as good as turns. Mean and range of the rounds.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <thread>

#include "context.h"

int main(int argc, char** argv) {
  if (argc < 2) return std::fprintf(stderr, "lanes MODEL.gguf [length [rounds]]\n"), 2;
  const int length = argc > 2 ? std::atoi(argv[2]) : 160;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 4;
  const llama_model_ptr model = Load(argv[1]);
  if (!model) return std::fprintf(stderr, "%s cannot be loaded\n", argv[1]), 1;
  Context both(model.get(), 2, length, false), one(model.get(), 1, length, false),
      other(model.get(), 1, length, false);
  using Clock = std::chrono::steady_clock;
  const auto rate = [](const auto& step, const auto& more) {
    const auto begin = Clock::now();
    const auto took = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
    int steps = 0;
    for (; more(took()); ++steps) step();
    return steps / took();
  };
  const auto two_seconds = [](double t) { return t < 2; };
  double sum = 0;
  int n = 0;
  std::printf("tokens/s: decoding and prompts, in turns of both threads; beside each other; share\n");
  for (const int b : {1, 4, 8, 16}) {
    double low = 1e9, high = 0, total = 0;
    for (int round = 0; round < rounds; ++round) {
      constexpr int kChunk = 64;
      const auto prompts = [&](Context* c) {
        c->Chunk(0, length, kChunk);
        c->Cut(0, length);
      };
      const double decode = b * rate([&] { Decode(&both, length, First(b)); }, two_seconds);
      const double prompt = kChunk * rate([&] { prompts(&both); }, two_seconds);
      std::atomic<bool> stop = false;
      double beside = 0;
      std::thread lane(
          [&] { beside = kChunk * rate([&] { prompts(&other); }, [&](double) { return !stop; }); });
      const double decode_beside = b * rate([&] { Decode(&one, length, First(b)); }, two_seconds);
      stop = true;
      lane.join();
      const double share = decode_beside / decode + beside / prompt;
      std::printf("B %2d  %4.0f %4.0f  %4.0f %4.0f  %.2f\n", b, decode, prompt, decode_beside, beside, share);
      low = std::min(low, share), high = std::max(high, share), total += share;
    }
    std::printf("B %2d  mean %.2f (%.2f to %.2f)\n", b, total / rounds, low, high);
    sum += total / rounds, ++n;
  }
  std::printf("mean of all %.2f\n", sum / n);
}
