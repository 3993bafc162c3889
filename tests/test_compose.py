"""docker-compose.community.yml: read by a parser, its services tried as plain processes."""

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import yaml

from conftest import client
from support.process import BINARY, http, run, wait_until

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.community.yml").read_text())
SERVICES = COMPOSE["services"]
COMMANDS = {"gateway-lite": "gateway", "coordinator-lite": "coordinator", "worker": "worker"}


def expand(text: str, env: dict[str, str]) -> str:
    """${NAME:-default} and ${NAME}, as compose reads them."""
    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", lambda m: env.get(m[1]) or m[2] or "", str(text))


def environment(service: str, env: dict[str, str] | None = None) -> dict[str, str]:
    return {name: expand(value, env or {}) for name, value in SERVICES[service].get("environment", {}).items()}


def dockerfile(service: str) -> str:
    build = SERVICES[service]["build"]
    return (ROOT / build["context"] / build["dockerfile"]).read_text()


def test_the_contracts_names():
    assert {"gateway-lite", "coordinator-lite", "worker"} <= set(SERVICES)
    assert set(COMPOSE["networks"]) == {"cy-llm-lite"}
    assert SERVICES["gateway-lite"]["image"] == "cy-llm-gateway-lite"
    assert SERVICES["coordinator-lite"]["image"] == "cy-llm-coordinator-lite"
    assert SERVICES["worker"]["image"].startswith("cy-llm-worker-lite:")
    for service, variable, port in [
        ("gateway-lite", "CY_LLM_LITE_PORT", 8000), ("coordinator-lite", "CY_LLM_LITE_COORDINATOR_PORT", 50051),
        ("worker", "CY_LLM_LITE_WORKER_PORT", 50052), ("worker", "CY_LLM_WORKER_METRICS_PORT", 19090),
    ]:  # fmt: skip
        ports = [expand(p, {}) for p in SERVICES[service]["ports"]]
        assert any(f":{port}:" in p for p in ports), ports
        assert any(":12345:" in expand(p, {variable: "12345"}) for p in SERVICES[service]["ports"])
        assert all(p.startswith("127.0.0.1:") for p in ports), "published on this host only, unless asked"


@pytest.mark.parametrize("service", [s for s in SERVICES])
def test_each_service_has_image_dockerfile_and_healthcheck(service):
    text = dockerfile(service)
    assert "USER " in text and "HEALTHCHECK" in text and re.search(r"^ARG BASE", text, re.M)
    assert SERVICES[service]["healthcheck"]["test"][:3] == ["CMD", "cy-llm", "healthcheck"]


@pytest.mark.parametrize("service", COMMANDS)
def test_its_variables_are_the_programs(service):
    shown = run(COMMANDS[service], "--help").stdout
    for name in environment(service):
        if not name.startswith("HF_"):
            assert name in shown, name


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="not a Debian system")
def test_the_images_have_the_binarys_libraries():
    libraries = {Path(p).resolve().name for p in re.findall(r"=> (/\S+)", output("ldd", str(BINARY)))}
    owners: dict[str, set[str]] = {}
    for files in Path("/var/lib/dpkg/info").glob("*.list"):
        for name in {line.rsplit("/", 1)[-1] for line in files.read_text().splitlines()} & libraries:
            owners.setdefault(name, set()).add(files.stem.split(":")[0])
    assert set(owners) == libraries
    installed = output("dpkg-query", "-W", "-f", "${Package} ${Pre-Depends} ${Depends}\n").splitlines()
    depends = {line.split()[0]: set(re.findall(r"[a-z0-9][a-z0-9+.-]+", re.sub(r"\(.*?\)", "", line))) for line in installed}
    for file in ROOT.glob("Dockerfile.*"):
        offered, todo = set(), set(re.findall(r"\blib[a-z0-9+.-]+", file.read_text().split("./cy-llm build")[-1]))
        while todo := (todo & depends.keys()) - offered:
            offered |= todo
            todo = set().union(*(depends[package] for package in todo))
        for library, packages in owners.items():
            assert packages & offered, f"{file.name}: {library} is of {packages}"


def entrypoint(service: str) -> list[str]:
    line = re.search(r"^ENTRYPOINT (\[.*\])", dockerfile(service), re.M)[1]
    return yaml.safe_load(line)[1:]


def image_environment(service: str) -> dict[str, str]:
    final = dockerfile(service).split("\nFROM ")[-1]
    return dict(pair.split("=", 1) for line in re.findall(r"^ENV (.*)", final, re.M) for pair in line.split())


def free_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


@pytest.mark.parametrize("token", ["", "s3cret"])
def test_the_services_as_plain_processes(start, token, tmp_path):
    user = {"CY_LLM_ENGINE": "echo", "GATEWAY_API_TOKEN": token, "CY_LLM_INTERNAL_TOKEN": token}
    ports = {name: free_port() for name in ("8000", "50051", "50052", "9090", "8081")}
    whole = ports | {"0.0.0.0": "127.0.0.1", "/models": str(tmp_path)}

    def local(text: str) -> str:
        host, colon, port = text.rpartition(":")
        if colon and port in ports:
            assert host in {"0.0.0.0", *SERVICES}
            return f"127.0.0.1:{ports[port]}"
        return whole.get(text, text)

    for service in ("worker", "coordinator-lite", "gateway-lite"):
        env = {k: local(v) for k, v in (image_environment(service) | environment(service, user)).items()}
        if service == "coordinator-lite":
            env["CY_LLM_COORDINATOR_HTTP_LISTEN"] = f"127.0.0.1:{ports['8081']}"
        start(*map(local, entrypoint(service)), env=env, expect=(COMMANDS[service],))
    for service in COMMANDS:
        check = SERVICES[service]["healthcheck"]["test"]
        for port in ports:
            check = [c.replace(f":{port}/", f":{ports[port]}/") for c in check]
        assert run(*check[2:]).returncode == 0, check
    url = f"http://127.0.0.1:{ports['8000']}"
    wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
    api = client(url, api_key=token or "none")
    done = api.chat.completions.create(model="default", messages=[{"role": "user", "content": "from compose"}])
    assert done.choices[0].message.content == "from compose"
