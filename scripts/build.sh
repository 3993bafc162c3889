# shellcheck shell=bash
# Configure and build.

# configure PRESET [-D...]: runs CMake unless this tree was configured with the same options before (Ninja runs it again
# by itself when a CMakeLists.txt changed).
configure() {
  local preset=$1 dir=$BUILD/$1 npm
  shift
  if [[ -f $dir/build.ninja && -f $dir/configured && $(<"$dir/configured") == "$*" ]]; then return 0; fi
  npm=$(find_npm) || return 1
  PATH=$(dirname "$npm"):$PATH cmake -S "$ROOT" --preset "$preset" -DCY_NPM="$npm" "$@" || return 1
  printf '%s' "$*" >"$dir/configured"
}

# build_tree PRESET TARGET [-D...]
build_tree() {
  local preset=$1 target=$2
  shift 2
  (cd "$ROOT" && configure "$preset" "$@" && cmake --build "$BUILD/$preset" -j "$(nproc)" --target "$target")
}

readonly BUILD_HINT="the lines above say what broke. After an interrupted or mixed build, remove the folder build/ and run again"

cy_build() {
  local preset=release options=() before after
  while (($#)); do
    case $1 in
      --preset)
        preset=${2:?--preset needs a name}
        shift
        ;;
      prebuilt | native | system) options+=("-DCY_LLAMA=$1") ;;
      --packages)
        step "packages" "the packages above could not be installed" install_packages "${PACKAGES_BUILD[@]}"
        return
        ;;
      -D*) options+=("$1") ;;
      *) die "build: unknown option '$1'; known: --preset release|dev|asan|tsan, prebuilt, native, system, --packages, -DNAME=VALUE" ;;
    esac
    shift
  done
  [[ $preset =~ ^(release|dev|asan|tsan)$ ]] || die "build: unknown preset '$preset'; known: release, dev, asan, tsan"
  local packages=("${PACKAGES_BUILD[@]}")
  case $preset in *san) packages+=(libclang-rt-19-dev) ;; esac
  step "[1/2] packages" "the packages above could not be installed" install_packages "${packages[@]}"
  before=$(children_cpu)
  step "[2/2] build" "$BUILD_HINT" build_tree "$preset" app "${options[@]}"
  after=$(children_cpu)
  say "CPU time of this build: $(((after - before) / 100)) s"
  say "$BUILD/$preset/bin/cy-llm"
}
