# shellcheck shell=bash
# llama-server of the llama.cpp release that the engine plugin is made of: what ./cy-llm bench engine compares with, and a
# second server in front of which the upstream client is tested.

PEER=$BUILD/peer
LLAMA_SERVER=$PEER/build/bin/llama-server

# build_peer TARGET...: the release's whole source, from the package that the build has fetched; then programs of it, on our
# plugin's libraries.
build_peer() {
  local cache tarball
  cache=$(sed -n 's/^CY_CACHE_DIR:[A-Z]*=//p' "$BUILD/release/CMakeCache.txt")
  if [[ ! -d $PEER/source/models/templates ]]; then
    tarball=$(find "$cache" -maxdepth 1 -name 'node-llama-cpp-[0-9]*.tgz' | head -n 1)
    rm -rf "$PEER/part" && mkdir -p "$PEER/part" || return 1
    tar -xzf "$tarball" -C "$PEER/part" package/llama/gitRelease.bundle || return 1
    git clone -q --no-checkout "$PEER/part/package/llama/gitRelease.bundle" "$PEER/part/source" || return 1
    git -C "$PEER/part/source" sparse-checkout set include src common ggml vendor tools models/templates || return 1
    git -C "$PEER/part/source" checkout -q && rm -rf "$PEER/source" && mv "$PEER/part/source" "$PEER/source" || return 1
  fi
  cmake -S "$ROOT/bench/engine/peer" -B "$PEER/build" -G Ninja -DCMAKE_C_COMPILER=clang-19 -DCMAKE_CXX_COMPILER=clang++-19 \
    -DLLAMA_SOURCE="$PEER/source" -DLLAMA_LIBRARIES="$BUILD/release/bin/engines/llama_cpp" &&
    cmake --build "$PEER/build" -j "$(nproc)" --target "$@"
}

# The template is one with tools, which the default model's own does not have.
llama_server_tests() {
  CY_TEST_LLAMA_SERVER=$LLAMA_SERVER CY_TEST_LLAMA_TEMPLATE=$PEER/source/models/templates/Qwen-Qwen2.5-7B-Instruct.jinja \
    process_tests llama-server -k test_llama_server -s
}
