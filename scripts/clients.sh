# shellcheck shell=bash
# Other programs' clients (tests/clients), for the tests that need them. Kept in the user's cache.

CLIENTS_HOME=${XDG_CACHE_HOME:-$HOME/.cache}/cy-llm/clients

install_clients() {
  local wanted
  wanted=$(cat "$ROOT"/tests/clients/{requirements.txt,requirements-llama-index.txt,package.json})
  [[ $(cat "$CLIENTS_HOME/done" 2>/dev/null) == "$wanted" ]] && return
  command -v npm >/dev/null || install_packages nodejs npm || return 1
  rm -rf "$CLIENTS_HOME"
  mkdir -p "$CLIENTS_HOME/node" && python3 -m venv "$CLIENTS_HOME/venv" &&
    "$CLIENTS_HOME/venv/bin/pip" install --quiet -r "$ROOT/tests/clients/requirements.txt" &&
    python3 -m venv "$CLIENTS_HOME/venv-llama-index" &&  # wants another openai than the others
    "$CLIENTS_HOME/venv-llama-index/bin/pip" install --quiet -r "$ROOT/tests/clients/requirements-llama-index.txt" &&
    cp "$ROOT/tests/clients/package.json" "$CLIENTS_HOME/node/" &&
    npm install --prefix "$CLIENTS_HOME/node" --ignore-scripts --no-audit --no-fund --no-package-lock --silent &&
    echo "$wanted" >"$CLIENTS_HOME/done"
}

clients_tests() {
  CY_TEST_CLIENTS=$CLIENTS_HOME process_tests clients -k test_clients
}
