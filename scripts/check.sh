# shellcheck shell=bash
# format and lint.

# check_format [--check]: clang-format over all our C++.
check_format() {
  local files options=(-i)
  if [[ ${1:-} == --check ]]; then
    options=(--dry-run -Werror)
  elif (($#)); then
    die "format: unknown option '$1'; known: --check"
  fi
  mapfile -t files < <(find "$ROOT/src" "$ROOT/engines" "$ROOT/bench" -name '*.cc' -o -name '*.h' -o -name '*.hpp' 2>/dev/null)
  clang-format-19 "${options[@]}" "${files[@]}"
}

cy_format() {
  step "packages" "the packages above could not be installed" install_packages clang-format-19
  check_format "$@"
}

# The scripts are parts of one program: what one defines and another uses is not unused (SC2034), nor misspelt (SC2153).
check_scripts() {
  shellcheck -x -e SC2034,SC2153 "$ROOT/cy-llm" "$ROOT"/scripts/*.sh "$ROOT/.ci/run"
}

# lint [FILE...]: clang-tidy over these sources (default: all; minutes), shellcheck, layers.
cy_lint() {
  local files=("$@")
  step "packages" "the packages above could not be installed" install_packages "${PACKAGES_BUILD[@]}" "${PACKAGES_LINT[@]}"
  "$ROOT/tools/check_layers.py" || return 1
  check_scripts || return 1
  step "build" "$BUILD_HINT" build_tree dev all
  ((${#files[@]})) || mapfile -t files < <(find "$ROOT/src" "$ROOT/engines" -name '*.cc' ! -name '*_test.cc')
  printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$(nproc)" clang-tidy-19 --quiet -p "$BUILD/dev"
}
