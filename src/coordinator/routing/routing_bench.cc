// What routing costs and what it is worth, in numbers; needs no server. bench_routing [WORKERS [REQUESTS]]
#include <cstdio>
#include <cstdlib>

#include "async/io_pool.h"
#include "base/clock.h"
#include "coordinator/routing/router.h"
#include "coordinator/routing/simulation.h"
#include "inference/prefix_hash.h"
#include "inference/wait_queue.h"

namespace cyllm {
namespace {

double Seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

template <class F>
void Measure(const char* what, uint64_t times, F f) {
  const TimePoint begin = Clock::now();
  uint64_t sum = 0;
  for (uint64_t i = 0; i < times; ++i) sum += f(i);
  const double ns = Seconds(Clock::now() - begin) * 1e9 / static_cast<double>(times);
  std::printf("  %-58s %10.0f ns   (%llx)\n", what, ns, static_cast<unsigned long long>(sum & 0xf));
}

void Micro() {
  std::printf("micro\n");
  RequestFacts facts;
  facts.model = "m";
  PayloadParts parts;
  parts.messages_json = std::string(16'384, 'x');
  Measure("hash a prompt of 16 KiB (4k tokens)", 20'000,
          [&](uint64_t) { return PrefixHashes(facts, parts).back(); });
  for (const uint32_t n : {4u, 64u, 2'000u}) {
    std::vector<WorkerView> workers;
    for (uint32_t i = 0; i < n; ++i) workers.push_back({i, i + 1, Mix64(i, 1), i % 7, 0});
    PrefixIndex index({});
    std::vector<std::vector<uint64_t>> prompts;
    for (uint64_t p = 0; p < 1'024; ++p) {
      std::vector<uint64_t> blocks;
      uint64_t state = p;
      for (uint64_t b = 0; b < 64; ++b) blocks.push_back(state = Mix64(state, b));
      for (uint64_t k = 0; k < 3; ++k)
        index.Sent(blocks, static_cast<uint32_t>((p + k) % n + 1), Clock::now());
      prompts.push_back(std::move(blocks));
    }
    const TimePoint now = Clock::now();
    std::printf(" %u workers\n", n);
    Measure("match 64 blocks, 3 holders each", 20'000,
            [&](uint64_t i) { return index.Match(prompts[i % 1'024], now).size(); });
    Measure("tell the index of 64 blocks", 20'000, [&](uint64_t i) {
      index.Sent(prompts[i % 1'024], static_cast<uint32_t>(i % n + 1), now);
      return i;
    });
    Measure("pick prefix_aware, matched before", 20'000, [&](uint64_t i) {
      const auto matches = std::array{PrefixMatch{static_cast<uint32_t>(i % n + 1), 40}};
      return PickPrefixAware(prompts[i % 1'024], workers, matches, i).chosen;
    });
    Measure("pick least_load", 20'000, [&](uint64_t i) { return PickLeastLoad(workers, i); });
    Measure("pick power_of_two", 20'000, [&](uint64_t i) { return PickPowerOfTwo(workers, Mix64(i, 2)); });
    Measure("pick consistent_hash", 20'000, [&](uint64_t i) { return PickConsistentHash(workers, i); });
  }
  IoPool pool(1);
  WaitQueue queue({.max_waiting = 100'000});
  std::vector<std::shared_ptr<WaitQueue::Ticket>> tickets;
  for (int i = 0; i < 1'000; ++i)
    tickets.push_back(*queue.Enter(facts.model, facts, pool.At(0), Clock::now(), kNever));
  Measure("queue: enter and leave behind 1000", 20'000, [&](uint64_t i) {
    queue.Leave(*queue.Enter(facts.model, facts, pool.At(0), Clock::now(), kNever));
    return i;
  });
}

void Compare(const SimulationOptions& options) {
  std::printf("simulation: %u workers, %u requests, utilisation %.0f %%\n", options.workers, options.requests,
              options.utilisation * 100);
  std::printf("  %-16s %6s %10s %10s %10s %10s %9s\n", "policy", "hit", "ttft mean", "p50", "p99",
              "imbalance", "took");
  const auto line = [](const char* name, PolicyKind policy, const SimulationOptions& of) {
    const TimePoint begin = Clock::now();
    const SimulationResult r = Simulate(policy, of);
    std::printf("  %-16s %5.1f%% %8.0fms %8.0fms %8.0fms %10.2f %7.1f s\n", name, r.hit * 100,
                r.ttft_mean * 1e3, r.ttft_p50 * 1e3, r.ttft_p99 * 1e3, r.imbalance,
                Seconds(Clock::now() - begin));
  };
  for (size_t i = 0; i < kPolicies; ++i) {
    const auto policy = static_cast<PolicyKind>(i);
    line(NameOf(policy), policy, options);
  }
  SimulationOptions large = options;
  large.index_bytes *= 16;
  line("  index of 768 M", PolicyKind::kPrefixAware, large);
}

}  // namespace
}  // namespace cyllm

int main(int argc, char** argv) {
  cyllm::Micro();
  cyllm::SimulationOptions options;
  cyllm::Compare(options);
  options.workers = argc > 1 ? static_cast<uint32_t>(std::atoi(argv[1])) : 2'000;
  options.requests = argc > 2 ? static_cast<uint32_t>(std::atoi(argv[2])) : 100'000;
  options.conversations = options.workers * 10;
  options.system_prompts = 200;
  cyllm::Compare(options);
  return 0;
}
