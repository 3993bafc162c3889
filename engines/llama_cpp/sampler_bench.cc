// What choosing a token costs: bench_sampler prints microseconds per token for a vocabulary of 49,152, the
// median of several rounds, with logits that fall off as a language model's do.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <random>

#include "llama_cpp/sampler.h"

namespace {

using namespace cyllm::llama;

constexpr size_t kVocabulary = 49152;

double Microseconds(SamplingParams params, const std::vector<std::vector<float>>& rows) {
  params.seed = 1;
  std::vector<double> rounds;
  std::vector<float> scratch;
  for (int round = 0; round < 15; ++round) {
    Sampler sampler(params, 0, {});
    std::chrono::duration<double, std::micro> took{0};
    uint32_t position = 0;
    for (const auto& row : rows) {
      scratch = row;
      const auto begin = std::chrono::steady_clock::now();
      sampler.Choose(scratch, position++, {});
      took += std::chrono::steady_clock::now() - begin;
    }
    rounds.push_back(took.count() / static_cast<double>(rows.size()));
  }
  std::nth_element(rounds.begin(), rounds.begin() + 7, rounds.end());
  return rounds[7];
}

}  // namespace

int main() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 2.5f);
  std::vector<std::vector<float>> rows(32, std::vector<float>(kVocabulary));
  for (auto& row : rows)
    for (float& l : row) l = normal(random);
  for (auto& row : rows)
    for (int i = 0; i < 20; ++i) row[random() % kVocabulary] = 16.0f - static_cast<float>(i) * 0.5f;
  SamplingParams plain;
  plain.temperature = 1;
  plain.top_k = 0;
  plain.top_p = 1;
  plain.min_p = 0;
  const auto print = [&](const char* what, const auto& change) {
    SamplingParams params = plain;
    change(params);
    std::printf("%-34s %8.1f us\n", what, Microseconds(params, rows));
  };
  print("greedy", [](auto& p) { p.temperature = 0; });
  print("defaults (top-k 40, top-p, min-p)", [](auto& p) { p = SamplingParams{}; });
  print("temperature 1", [](auto&) {});
  print("top-p 0.9 alone", [](auto& p) { p.top_p = 0.9; });
  print("top-p 0.9 alone, temperature 2", [](auto& p) { p.top_p = 0.9, p.temperature = 2; });
  print("min-p 0.05 alone", [](auto& p) { p.min_p = 0.05; });
  print("greedy, penalties", [](auto& p) { p.temperature = 0, p.frequency_penalty = 0.5; });
  print("greedy, 5 logprobs", [](auto& p) { p.temperature = 0, p.logprobs = true, p.top_logprobs = 5; });
}
