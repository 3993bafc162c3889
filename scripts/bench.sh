# shellcheck shell=bash
# ./cy-llm bench: what a request costs. ./cy-llm bench routing: what a pick costs, and policies compared in a simulation.
# ./cy-llm bench engine: our engine against llama-server of the same release.

cy_bench() {
  step "packages" "the packages above could not be installed" install_packages "${PACKAGES_BUILD[@]}" python3
  if [[ ${1:-} == routing ]]; then
    shift
    step "build" "$BUILD_HINT" build_tree release bench_routing
    "$BUILD/release/src/coordinator/routing/bench_routing" "$@"
    return
  fi
  step "build" "$BUILD_HINT" build_tree release app
  if [[ ${1:-} == engine ]]; then
    shift
    bench_engine "$@"
    return
  fi
  "$ROOT/bench/request_cost.py" --binary "$BINARY" "$@"
}

# The test model as Q4_0, which llama.cpp has the fast kernels for.
bench_model() {
  local model=$PEER/model.Q4_0.gguf from
  [[ -f $model ]] && return
  from=$("$BINARY" pull smollm2 | tail -n 1) || return 1
  "$PEER/build/bin/requantize" "$from" "$model.part" && mv "$model.part" "$model"
}

bench_engine() {
  load peer
  step "llama-server" "the lines above say what broke" build_peer all
  step "model" "the lines above say what broke" bench_model
  "$ROOT/bench/engine/run.py" --binary "$BINARY" --peer "$LLAMA_SERVER" --ideal "$PEER/build/bin/llama-batched-bench" --chain \
    --model "$PEER/model.Q4_0.gguf" "$@"
}
