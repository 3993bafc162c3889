# shellcheck shell=bash
# ./cy-llm test --containers: the images are really built and run, with buildah and podman, which need no Docker engine.
# No image registry is asked: the base image is made of Debian packages.

CONTAINER_BASE=localhost/cy-llm-base
PODMAN_RUN=(podman run --runtime /usr/sbin/runc --network=host --ulimit nofile=1000:1000 --ulimit nproc=1000:1000)

make_base() {
  podman image exists "$CONTAINER_BASE" && return
  local root=$BUILD/containers/root
  rm -rf "$root"
  mkdir -p "$root"
  debootstrap --variant=minbase bookworm "$root" || return 1
  # How this machine reaches its packages is what the build inside needs too: sources, certificates, pip's settings.
  # (ca-certificates, installed later, makes its bundle anew from the certificates beside it.)
  cp -a /etc/apt/sources.list* /etc/apt/apt.conf.d "$root/etc/apt/" || return 1
  mkdir -p "$root/etc/ssl/certs" "$root/usr/local/share/ca-certificates" || return 1
  cp -aL /etc/ssl/certs/. "$root/etc/ssl/certs/" || return 1
  cp -a /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/" || return 1
  [[ ! -f /etc/pip.conf ]] || cp /etc/pip.conf "$root/etc/pip.conf" || return 1
  tar -C "$root" -c . | podman import - "$CONTAINER_BASE"
}

# build_image NAME DOCKERFILE: with this machine's caches of the compiler and of fetched packages.
build_image() {
  local settings=() name
  for name in http_proxy https_proxy no_proxy PIP_INDEX_URL NODE_EXTRA_CA_CERTS; do
    [[ -z ${!name:-} ]] || settings+=(--env "$name=${!name}")
  done
  mkdir -p "$CACHE"
  buildah bud --isolation=chroot --network=host --layers "${settings[@]}" --volume "$CACHE:/root/.cache/cy-llm" \
    --build-arg "BASE=$CONTAINER_BASE" -t "localhost/$1" -f "$ROOT/$2" "$ROOT"
}

# start_container NAME [podman options] IMAGE [arguments]
start_container() {
  local name=$1
  shift
  "${PODMAN_RUN[@]}" -d --name "$name" "$@"
}

wait_healthy() {
  local begin=$SECONDS
  until podman exec "$1" cy-llm healthcheck "$2"; do
    ((SECONDS - begin < 120)) || return 1
    sleep 0.5
  done
}

run_images() {
  local key=test-key answer
  start_container cy-llm-test-worker -e CY_LLM_INSECURE=true -e CY_LLM_HEALTH_PORT=19190 localhost/cy-llm-worker-lite:cpu \
    --port 15052 || return 1
  start_container cy-llm-test-coordinator -e CY_LLM_INSECURE=true -e COORDINATOR_GRPC_BIND=127.0.0.1:15051 \
    -e CY_LLM_COORDINATOR_HTTP_LISTEN=127.0.0.1:18081 -e WORKER_GRPC_ADDRS=127.0.0.1:15052 \
    localhost/cy-llm-coordinator-lite || return 1
  start_container cy-llm-test-gateway -e CY_LLM_GATEWAY_LISTEN=127.0.0.1:18000 -e GATEWAY_API_TOKEN=$key \
    -e COORDINATOR_GRPC_ADDR=127.0.0.1:15051 localhost/cy-llm-gateway-lite || return 1
  wait_healthy cy-llm-test-worker http://127.0.0.1:19190/healthz || return 1
  wait_healthy cy-llm-test-gateway http://127.0.0.1:18000/ready || return 1
  answer=$(curl -fsS --noproxy '*' http://127.0.0.1:18000/v1/chat/completions -H "Authorization: Bearer $key" \
    -H 'Content-Type: application/json' \
    -d '{"model":"default","temperature":0,"max_tokens":16,"messages":[{"role":"user","content":"Translate '\''good morning'\'' to Spanish."}]}') || return 1
  say "$answer"
  [[ $answer == *"Hoy, buen hora!"* ]] || return 1
  [[ $(podman exec cy-llm-test-gateway id -u) == 10001 ]] || return 1
  podman stop -t 20 cy-llm-test-gateway && [[ $(podman inspect -f '{{.State.ExitCode}}' cy-llm-test-gateway) == 0 ]]
}

remove_containers() {
  podman rm -f -i cy-llm-test-worker cy-llm-test-coordinator cy-llm-test-gateway >/dev/null
}

cy_containers() {
  install_packages "${PACKAGES_CONTAINERS[@]}"
  make_base &&
    build_image cy-llm-gateway-lite Dockerfile.gateway.lite &&
    build_image cy-llm-coordinator-lite Dockerfile.coordinator.lite &&
    build_image cy-llm-worker-lite:cpu Dockerfile.worker.cpu || return 1
  remove_containers
  local status=0
  run_images || status=1
  if ((status)); then
    podman logs cy-llm-test-worker
    podman logs cy-llm-test-coordinator
    podman logs cy-llm-test-gateway
  fi
  remove_containers
  return "$status"
}
