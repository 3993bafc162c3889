"""What the documents tell people to type."""

import re
import shlex
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from support.process import BINARY, http, run, wait_until

ROOT = Path(__file__).parents[1]
DOCUMENTS = ["README.md", "README.zh.md", "DEVELOPMENT_LITE.md"]
API = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs/api").glob("*.md"))
OTHERS = ["ARCHITECTURE.md", "CHANGELOG.md", "docs/configuration.md", "docs/routing.md", "docs/clients.md", "docs/engines.md", "docs/write-an-engine.md"]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.M | re.S)


def commands(document: str) -> list[str]:
    """The commands of the sh blocks, each on one line."""
    lines = "\n".join(blocks(document, "sh")).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def script_words() -> set[str]:
    text = (ROOT / "cy-llm").read_text()
    return set(re.findall(r"^  ([a-z]+)\) load", text, re.M)) | {"help"}


def binary_words() -> set[str]:
    return set(re.findall(r"^  ([a-z-]+) ", run("--help").stdout, re.M))


@pytest.mark.parametrize("document", DOCUMENTS + API + OTHERS)
def test_every_command_and_flag_in_them_exists(document):
    text = (ROOT / document).read_text()
    script, binary = script_words(), binary_words()
    quoted = re.findall(r"`((?:\./)?cy-llm [^`\n]*)`", text)
    listed = [line for line in text.splitlines() if re.match(r"\s*(\./)?cy-llm ", line)]
    for line in quoted + listed:
        words = line.split("#")[0].replace("&", " ").split()[1:]
        if not words or not re.fullmatch(r"[a-z-]+", words[0]):
            continue
        assert words[0] in script | binary, f"{document}: {line}"
        if words[0] in binary:
            known = run(words[0], "--help").stdout
            for flag in (w.split("=")[0] for w in words[1:] if w.startswith("--")):
                assert flag in known, f"{document}: {line}"


@pytest.mark.parametrize("document", DOCUMENTS + API + OTHERS)
def test_their_links_lead_somewhere(document):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / document).read_text()):
        if not link.startswith("http"):
            assert (ROOT / document).parent.joinpath(link).exists(), link


@pytest.mark.parametrize("document", DOCUMENTS + API)
def test_the_curl_lines_work(document, echo):
    url = echo()
    for command in commands(document):
        if command.startswith("curl "):
            args = [a.replace("http://127.0.0.1:8000", url) for a in shlex.split(command)]
            done = subprocess.run([*args, "--silent", "--fail-with-body", "--noproxy", "*"], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, (command, done.stdout)
            assert ("data: [DONE]" in done.stdout) == ('"stream": true' in command or "inference/stream" in command)


def test_every_endpoint_has_an_example(echo):
    told = {re.sub(r".*127.0.0.1:8000", "", word) for d in API for c in commands(d) if c.startswith("curl") for word in shlex.split(c)}
    for path in http.get(echo() + "/openapi.json").json()["paths"]:
        assert path.replace("{id}", "default") in told, path


@pytest.mark.parametrize("document", DOCUMENTS + API)
def test_the_python_examples_work(document, echo, capfd):
    url = echo()
    for block in blocks(document, "python"):
        exec(compile(block.replace("http://127.0.0.1:8000", url), document, "exec"), {})  # noqa: S102
        assert capfd.readouterr().out.strip()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_chat_lines_work(document, echo):
    url = echo()
    for command in commands(document):
        if command.startswith("./cy-llm chat"):
            assert run(*shlex.split(command)[1:], "--url", url).returncode == 0, command


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_three_processes_as_told_find_each_other(document, start):
    told = [c for c in commands(document) if re.match(r"\./cy-llm (worker|coordinator|gateway) .*&$", c)]
    ports = {str(port): str(free_port()) for port in (50052, 50051, 8000)}
    own = {  # what every machine has once only: ports that the lines do not name, and the model
        "worker": ["--health-port", "0"],
        "coordinator": ["--http-listen", "127.0.0.1:0"],
        "gateway": [],
    }
    for command in told:
        _, kind, *args = shlex.split(command.rstrip("& "))
        line = re.sub(r"\b(50052|50051|8000)\b", lambda m: ports[m[1]], " ".join(args))
        if kind == "worker" and "--engine" not in line:
            line += " --engine echo"
        if kind == "coordinator":
            line += f" --listen 127.0.0.1:{ports['50051']}"
        start(kind, *line.split(), *own[kind])
    if told:
        url = f"http://127.0.0.1:{ports['8000']}/ready"

        def ready():
            try:
                return http.get(url).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(ready, what="/ready")


def test_all_of_them_have_something_to_test():
    told = [c for d in DOCUMENTS for c in commands(d)]
    assert any(c.startswith("curl") for c in told) and any("gateway" in c for c in told)
    assert blocks("README.md", "python") and BINARY.exists()


def test_both_readmes_tell_the_same_commands():
    assert commands("README.md") == commands("README.zh.md")
