# shellcheck shell=bash
# ./cy-llm test: builds and passes all tests. The last line is "N passed, N failed".

RESULTS=$BUILD/test-results

# part NAME CMD...: runs CMD with its output in a log; a failure is shown, remembered, and the next part begins.
part() {
  local name=$1 log begin=$SECONDS
  shift
  log=$LOGS/test-$name.log
  mkdir -p "$LOGS" "$RESULTS/$name"
  if "$@" </dev/null 2>&1 | show_progress "$name" "$log"; then
    say "$name: ok, $((SECONDS - begin)) s"
    compgen -G "$RESULTS/$name/*.xml" >/dev/null || touch "$RESULTS/$name.whole"
    return
  fi
  say "$name: FAILED after $((SECONDS - begin)) s. The end of $log:"
  tail -n 60 "$log" | sed 's/^/    /'
  # Test programs leave their own results; what ends without any must count all the same.
  if ! grep -qs '<failure\|<error' "$RESULTS/$name"/*.xml; then
    say "see $log" >"$RESULTS/$name.broken"
  fi
}

# unit_tests NAME PRESET [-D...]: GoogleTest programs, run by CTest.
unit_tests() {
  local name=$1 preset=$2
  shift 2
  build_tree "$preset" all "$@" || return 1
  GTEST_OUTPUT="xml:$RESULTS/$name/" ctest --test-dir "$BUILD/$preset" --output-on-failure -j "$(nproc)"
}

python_environment() {
  local venv=$BUILD/venv
  if [[ ! -f $venv/done ]] || ! cmp -s "$ROOT/tests/requirements.txt" "$venv/done"; then
    rm -rf "$venv"
    python3 -m venv "$venv" && "$venv/bin/pip" install --quiet -r "$ROOT/tests/requirements.txt" || return 1
    cp "$ROOT/tests/requirements.txt" "$venv/done"
  fi
}

# process_tests NAME [pytest options]
process_tests() {
  local name=$1
  shift
  CY_LLM_BIN=$BINARY "$BUILD/venv/bin/python" -m pytest "$ROOT/tests" --rootdir "$ROOT/tests" \
    --junitxml "$RESULTS/$name/pytest.xml" "$@"
}

# Left out: texts of the real model that are compared for what they say, of which nothing is new here but the time they
# take (a third of this part's); all but the bits of its answers are done by --all.
asan_tests() {
  local filter='-ExactTest.*'
  if ! ((long)); then
    filter+=':ModelTest.GreedyTexts*:ModelTest.ReusedPrefixesGiveTheSameText:AdapterModelTest.BesideOthersEqualsAlone'
    filter+=':AdapterModelTest.TheCacheKeepsThemApart:AnswerModelTest.EmbeddingsAreUnitVectorsThatTellTextsApart'
  fi
  GTEST_FILTER=$filter unit_tests asan asan
}

# Debian's gRPC is not instrumented, and ThreadSanitizer cannot see how it synchronises: its tests are left out. Sessions,
# pipes, the fleet, the gateway, the worker and the engines have tests without it. llama.cpp's libraries are not
# instrumented either: no real model.
tsan_tests() {
  CY_TEST_MODEL='' GTEST_FILTER='-GrpcTest.*' TSAN_OPTIONS="suppressions=$ROOT/tests/tsan.supp" unit_tests tsan tsan
}

# Each fuzz program of the asan tree, for a minute; what it finds is its exit status.
fuzz_tests() {
  local program corpus
  for program in "$BUILD"/asan/fuzz/fuzz_*; do
    corpus=$BUILD/fuzz/$(basename "$program")
    mkdir -p "$corpus"
    "$program" -max_total_time=60 -rss_limit_mb=4096 -print_final_stats=1 "$corpus" "$ROOT/tests/fuzz/${program##*/fuzz_}" ||
      return 1
  done
}

# A thousand faults under load, and a hundred with the real model; half an hour or so. CY_CHAOS_SEED tells another
# story.
chaos_tests() {
  CY_CHAOS_KILLS=${CY_CHAOS_KILLS:-1000} CY_CHAOS_REAL_KILLS=${CY_CHAOS_REAL_KILLS:-100} \
    process_tests chaos -s -k test_chaos
}

static_checks() {
  "$ROOT/tools/check_layers.py" || return 1
  check_scripts || return 1
  check_format --check
}

cy_test() {
  local asan=1 tsan=0 containers=0 long=0 only=''
  while (($#)); do
    case $1 in
      --all) tsan=1 containers=1 long=1 ;;
      --asan) only=asan ;;
      --tsan) only=tsan ;;
      --containers) only=containers ;;
      --chaos) only=chaos ;;
      --vllm) only=vllm ;;
      --llama-server) only=llama-server ;;
      --clients) only=clients ;;
      *) die "test: unknown option '$1'; known: --asan, --tsan, --containers, --chaos, --vllm, --llama-server, --clients, --all" ;;
    esac
    shift
  done
  if [[ -n $only ]]; then asan=0 tsan=0 containers=0; fi
  case $only in asan) asan=1 ;; tsan) tsan=1 ;; containers) containers=1 ;; esac

  rm -rf "$RESULTS"
  mkdir -p "$RESULTS"
  step "packages" "the packages above could not be installed" install_packages "${PACKAGES_BUILD[@]}" "${PACKAGES_TEST[@]}"
  if [[ $only == chaos ]]; then
    part build build_tree release app
    step "python" "the packages of tests/requirements.txt could not be installed" python_environment
    step "model" "the model could not be fetched: check the network" fetch_model
    CY_TEST_MODEL=$(<"$RESULTS/model")
    export CY_TEST_MODEL
  fi
  if [[ $only == vllm ]]; then
    load vllm
    part build build_tree release app
    step "python" "the packages of tests/requirements.txt could not be installed" python_environment
    step "packages" "libnuma could not be installed" install_packages libnuma1
    step "model" "the model could not be fetched: check the network" fetch_model
    step "vllm (minutes, 6 GB)" "vLLM could not be installed: check the network" install_vllm
    step "vllm's model" "the model could not be converted" vllm_model "$(<"$RESULTS/model")"
    part vllm vllm_tests
  fi
  if [[ $only == llama-server ]]; then
    load peer
    part build build_tree release app
    step "python" "the packages of tests/requirements.txt could not be installed" python_environment
    step "model" "the model could not be fetched: check the network" fetch_model
    step "llama-server" "llama-server could not be built" build_peer llama-server
    CY_TEST_MODEL=$(<"$RESULTS/model") part llama-server llama_server_tests
  fi
  if [[ $only == clients ]]; then
    part build build_tree release app
    step "python" "the packages of tests/requirements.txt could not be installed" python_environment
  fi
  if [[ -z $only ]]; then
    part static static_checks
    part unit unit_tests unit release
    if [[ -x $BINARY ]]; then
      local model=''
      step "model" "the model could not be fetched: check the network" fetch_model
      model=$(<"$RESULTS/model")
      export CY_TEST_MODEL=$model
      step "python" "the packages of tests/requirements.txt could not be installed" python_environment
      part unit-model ctest --test-dir "$BUILD/release" -R 'engine_llama_cpp' --output-on-failure
      if ((long)); then part process process_tests process; else part process process_tests process -m 'not long'; fi
    fi
  fi
  if ((long)) || [[ $only == clients ]]; then
    load clients
    step "clients (minutes, 2 GB)" "the clients could not be installed: check the network" install_clients
    part clients clients_tests
  fi
  if ((long)) || [[ $only == chaos ]]; then part chaos chaos_tests; fi
  if ((asan)); then part asan asan_tests; fi
  if ((long)); then part fuzz fuzz_tests; fi
  if ((tsan)); then part tsan tsan_tests; fi
  if ((containers)); then
    load containers
    part containers cy_containers
  fi
  "$ROOT/tools/sum_results.py" "$RESULTS"
}

fetch_model() {
  "$BINARY" pull smollm2 | tail -n 1 >"$RESULTS/model" && [[ -s $RESULTS/model ]]
}
