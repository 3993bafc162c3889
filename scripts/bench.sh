# shellcheck shell=bash
# ./cy-llm bench: what a request costs.

cy_bench() {
  step "packages" "the packages above could not be installed" install_packages "${PACKAGES_BUILD[@]}" python3
  step "build" "$BUILD_HINT" build_tree release app
  "$ROOT/bench/request_cost.py" --binary "$BINARY" "$@"
}
