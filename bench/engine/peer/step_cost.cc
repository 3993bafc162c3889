// What a step costs: the measurements that the scheduler and its KV mode were decided by.
//
//   step_cost MODEL.gguf [threads [length [rounds]]]
//
// Decoding steps of B sequences that hold `length` tokens each, with one KV stream per sequence and with the
// unified cache; the same with a sequence missing in the middle, which streams compute in two parts; prompt
// chunks of N tokens behind `length` others. Cases are measured in turns, `rounds` times; the median and the
// quartiles are printed.
#include <cstdio>
#include <functional>
#include <string>
#include <utility>

#include "context.h"

int main(int argc, char** argv) {
  if (argc < 2) return std::fprintf(stderr, "step_cost MODEL.gguf [threads [length [rounds]]]\n"), 2;
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  const int length = argc > 3 ? std::atoi(argv[3]) : 160;
  const int rounds = argc > 4 ? std::atoi(argv[4]) : 15;
  const llama_model_ptr model = Load(argv[1]);
  if (!model) return std::fprintf(stderr, "%s cannot be loaded\n", argv[1]), 1;
  Context streams(model.get(), threads, length, false), unified(model.get(), threads, length, true);

  std::vector<std::pair<std::string, std::function<double()>>> cases;
  for (const int b : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}) {
    const auto name = "decode " + std::to_string(b);
    cases.emplace_back(name + ", streams", [&, b] { return Decode(&streams, length, First(b)); });
    cases.emplace_back(name + ", unified", [&, b] { return Decode(&unified, length, First(b)); });
    if (b > 2 && b < 16)
      cases.emplace_back(name + ", streams, a gap",
                         [&, b] { return Decode(&streams, length, First(b, b / 2)); });
  }
  for (const int n : {2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256}) {
    cases.emplace_back("prompt " + std::to_string(n), [&, n] {
      const double took = streams.Chunk(0, length, n);
      streams.Cut(0, length);
      return took;
    });
  }
  std::vector<std::vector<double>> took(cases.size());
  for (int round = -1; round < rounds; ++round) {
    for (size_t i = 0; i < cases.size(); ++i) {
      const double ms = cases[i].second();
      if (round >= 0) took[i].push_back(ms);
    }
  }
  std::printf("%d threads, %d tokens in each sequence, %d rounds: ms, median (quartiles)\n", threads, length,
              rounds);
  for (size_t i = 0; i < cases.size(); ++i) {
    auto& v = took[i];
    std::sort(v.begin(), v.end());
    std::printf("%-28s %7.1f  (%.1f to %.1f)\n", cases[i].first.c_str(), v[v.size() / 2], v[v.size() / 4],
                v[v.size() * 3 / 4]);
  }
}
