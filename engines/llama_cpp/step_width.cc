#include "llama_cpp/step_width.h"

#include <algorithm>

namespace cyllm::llama {

namespace {

uint32_t Whole(uint32_t rows) {
  return (rows + StepWidth::kBlock - 1) / StepWidth::kBlock * StepWidth::kBlock;
}

// Not where most of the step would be for nothing.
bool WorthTrying(uint32_t rows) { return Whole(rows) != rows && 2 * (Whole(rows) - rows) <= rows; }

}  // namespace

bool StepWidth::Filled(const Trial& trial) {
  if (trial.steps < 2 * kTries) return trial.steps % 2 == 1;
  return trial.filled < trial.plain;
}

uint32_t StepWidth::Choose(uint32_t rows, uint32_t threads) {
  if (!WorthTrying(rows)) return rows;
  return Filled(trials_[{rows, threads}]) ? Whole(rows) : rows;
}

void StepWidth::Report(uint32_t rows, uint32_t threads, Seconds took) {
  if (!WorthTrying(rows)) return;
  Trial& trial = trials_[{rows, threads}];
  if (trial.steps < 2 * kTries) {
    Seconds& shortest = Filled(trial) ? trial.filled : trial.plain;
    shortest = trial.steps < 2 ? took : std::min(shortest, took);
  }
  if (++trial.steps == 2 * kTries + kKeep) trial = {};
}

}  // namespace cyllm::llama
