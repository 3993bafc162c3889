# shellcheck shell=bash
# Paths and output of the script. All that is written outside the checkout lies under $CACHE.

CACHE=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/cy-llm
BUILD=$ROOT/build
BINARY=$BUILD/release/bin/cy-llm
LOGS=$BUILD/logs

export CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache} CCACHE_BASEDIR=$ROOT CCACHE_NOHASHDIR=1
export npm_config_cache=$CACHE/npm npm_config_update_notifier=false
export PIP_CACHE_DIR=$CACHE/pip PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

say() { printf '%s\n' "$*"; }
complain() { printf 'cy-llm: %s\n' "$*" >&2; }
die() {
  complain "$*"
  exit 1
}

# step TITLE HINT CMD...: runs CMD, keeps its output in a log, shows the line it is at, then how long it took. A failure
# shows the end of the log and HINT and ends the script.
step() {
  local title=$1 hint=$2 log begin=$SECONDS
  shift 2
  log=$LOGS/$(tr -cs 'a-z0-9\n' '-' <<<"${title##*] }").log
  mkdir -p "$LOGS"
  if ! "$@" </dev/null 2>&1 | show_progress "$title" "$log"; then
    say "$title: FAILED after $((SECONDS - begin)) s. The end of $log:"
    tail -n 25 "$log" | sed 's/^/    /'
    die "$hint"
  fi
  say "$title: $((SECONDS - begin)) s"
}

# Copies stdin to LOG; on a terminal shows each line in place of the one before, elsewhere one line every 20 s.
show_progress() {
  local title=$1 log=$2 line shown=$SECONDS
  exec 3>"$log"
  [[ -t 1 ]] || say "$title ..."
  while IFS= read -r line || [[ -n $line ]]; do
    printf '%s\n' "$line" >&3
    if [[ -t 1 ]]; then
      printf '\r\033[K%.*s' "$((${COLUMNS:-100} - 1))" "$title: $line"
    elif ((SECONDS - shown >= 20)); then
      say "    $line"
      shown=$SECONDS
    fi
  done
  [[ ! -t 1 ]] || printf '\r\033[K'
}

# CPU time of all ended children of this script so far, in hundredths of a second.
children_cpu() {
  local stat
  read -r stat <"/proc/$$/stat"
  local fields
  read -r -a fields <<<"${stat##*) }"
  say $(((fields[13] + fields[14]) * 100 / $(getconf CLK_TCK)))
}
