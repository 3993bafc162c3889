# shellcheck shell=bash
# ./cy-llm bench: what a request costs. ./cy-llm bench routing: what a pick costs, and policies compared in a simulation.

cy_bench() {
  step "packages" "the packages above could not be installed" install_packages "${PACKAGES_BUILD[@]}" python3
  if [[ ${1:-} == routing ]]; then
    shift
    step "build" "$BUILD_HINT" build_tree release bench_routing
    "$BUILD/release/src/coordinator/routing/bench_routing" "$@"
    return
  fi
  step "build" "$BUILD_HINT" build_tree release app
  "$ROOT/bench/request_cost.py" --binary "$BINARY" "$@"
}
