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

# The release's whole source, from the package that the build has fetched; then its server, on our plugin's libraries.
build_peer() {
  local peer=$BUILD/peer cache tarball
  cache=$(sed -n 's/^CY_CACHE_DIR:[A-Z]*=//p' "$BUILD/release/CMakeCache.txt")
  if [[ ! -d $peer/source ]]; then
    tarball=$(find "$cache" -maxdepth 1 -name 'node-llama-cpp-[0-9]*.tgz' | head -n 1)
    rm -rf "$peer/part" && mkdir -p "$peer/part" || return 1
    tar -xzf "$tarball" -C "$peer/part" package/llama/gitRelease.bundle || return 1
    git clone -q --no-checkout "$peer/part/package/llama/gitRelease.bundle" "$peer/part/source" || return 1
    git -C "$peer/part/source" sparse-checkout set include src common ggml vendor tools || return 1
    git -C "$peer/part/source" checkout -q && mv "$peer/part/source" "$peer/source" || return 1
  fi
  cmake -S "$ROOT/bench/engine/peer" -B "$peer/build" -G Ninja -DCMAKE_C_COMPILER=clang-19 -DCMAKE_CXX_COMPILER=clang++-19 \
    -DLLAMA_SOURCE="$peer/source" -DLLAMA_LIBRARIES="$BUILD/release/bin/engines/llama_cpp" &&
    cmake --build "$peer/build" -j "$(nproc)"
}

# The test model as Q4_0, which llama.cpp has the fast kernels for.
bench_model() {
  local model=$BUILD/peer/model.Q4_0.gguf from
  [[ -f $model ]] && return
  from=$("$BINARY" pull smollm2 | tail -n 1) || return 1
  "$BUILD/peer/build/bin/requantize" "$from" "$model.part" && mv "$model.part" "$model"
}

bench_engine() {
  step "llama-server" "the lines above say what broke" build_peer
  step "model" "the lines above say what broke" bench_model
  "$ROOT/bench/engine/run.py" --binary "$BINARY" --peer "$BUILD/peer/build/bin/llama-server" \
    --model "$BUILD/peer/model.Q4_0.gguf" "$@"
}
