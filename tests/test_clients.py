"""Other programs' clients, each at a fixed version, against the all-in-one on echo. Optional: ./cy-llm test --clients installs
them (tests/clients) and sets CY_TEST_CLIENTS. The coding tools run without a terminal, in an empty home."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import echo_process

CLIENTS = Path(os.environ.get("CY_TEST_CLIENTS", ""))
SCRIPTS = Path(__file__).parent / "clients"
NODE = CLIENTS / "node"
pytestmark = pytest.mark.skipif(not CLIENTS.name, reason="CY_TEST_CLIENTS names no clients (./cy-llm test --clients)")


@pytest.fixture(scope="module")
def url():
    with echo_process() as url:
        yield url


def run(command: list, url: str, cwd: Path, expect: int = 0, **env: str) -> subprocess.CompletedProcess:
    base = {"PATH": os.environ["PATH"], "HOME": str(cwd), "NO_PROXY": "*", "GATEWAY": url, "KEY": "none"}
    done = subprocess.run([str(c) for c in command], env=base | env, cwd=cwd, text=True, capture_output=True,
                          stdin=subprocess.DEVNULL, timeout=180)  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.mjs")), ids=lambda p: p.stem)
def test_javascript(script, url, tmp_path):
    shutil.copy(script, NODE)  # modules are looked for beside the script
    run(["node", NODE / script.name], url, tmp_path, OPENAI_BASE_URL=url + "/v1", OPENAI_API_KEY="none",
        ANTHROPIC_BASE_URL=url, ANTHROPIC_API_KEY="none", OLLAMA_HOST=url)  # fmt: skip


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda p: p.stem)
def test_python(script, url, tmp_path):
    venv = "venv-llama-index" if script.stem.startswith("llama_index") else "venv"
    run([CLIENTS / venv / "bin/python", script], url, tmp_path)


SECRET = "violet anchor seventeen"


@pytest.fixture
def secret(tmp_path):
    """A file that a tool of the client's own has to read: echo is told in words to call that tool, and repeats its result."""
    path = tmp_path / "secret.txt"
    path.write_text(SECRET)
    return path


def claude_code(url: str, home: Path, expect: int = 0, ask: str = "apple pear") -> subprocess.CompletedProcess:
    (program,) = NODE.glob("node_modules/@anthropic-ai/claude-code-linux-*/claude")
    return run([program, "-p", ask], url, home, expect, ANTHROPIC_BASE_URL=url, ANTHROPIC_AUTH_TOKEN="none",
               ANTHROPIC_MODEL="default", CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1")  # fmt: skip


def test_claude_code(tmp_path):
    """It always asks for thousands of tokens, and takes an answer that is cut for an error."""
    with echo_process(reply_tokens=3000) as url:
        assert "apple pear" in claude_code(url, tmp_path).stdout


def test_claude_codes_tools(secret, tmp_path):
    with echo_process(reply_tokens=3000) as url:
        assert SECRET in claude_code(url, tmp_path, ask=f'Read {{"file_path": "{secret}"}}').stdout


@pytest.mark.real
def test_claude_code_knows_when_the_context_is_full(real, tmp_path):
    """Its tools are taken by the engine, and are longer than what the test model can read."""
    assert "Prompt is too long" in claude_code(real, tmp_path, expect=1).stdout


CODEX = """model = "default"
model_provider = "cy"
[model_providers.cy]
name = "cy"
base_url = "{url}/v1"
wire_api = "responses"
env_key = "CY_KEY"
"""


def codex(url: str, home: Path, expect: int = 0, ask: str = "apple pear", sandbox=("--sandbox", "read-only")):
    (home / ".codex").mkdir()
    (home / ".codex/config.toml").write_text(CODEX.format(url=url))
    return run([NODE / "node_modules/.bin/codex", "exec", "--skip-git-repo-check", *sandbox, ask],
               url, home, expect, CY_KEY="none")  # fmt: skip


def test_codex(url, tmp_path):
    assert "apple pear" in codex(url, tmp_path).stdout


def test_codexs_tools(url, secret, tmp_path):
    """Without its sandbox, which containers often cannot have."""
    done = codex(url, tmp_path, ask=f'exec_command {{"cmd": "cat {secret}"}}', sandbox=["--dangerously-bypass-approvals-and-sandbox"])
    assert SECRET in done.stdout


@pytest.mark.real
def test_codex_knows_when_the_context_is_full(real, tmp_path):
    """Its instructions alone are longer than what the test model can read."""
    assert "ran out of room in the model's context window" in codex(real, tmp_path, expect=1).stderr


def copilot(url: str, home: Path, *args: str) -> subprocess.CompletedProcess:
    return run([NODE / "node_modules/.bin/copilot", "-p", *args], url, home, COPILOT_PROVIDER_BASE_URL=url + "/v1",
               COPILOT_PROVIDER_TYPE="openai", COPILOT_PROVIDER_API_KEY="none", COPILOT_MODEL="default", COPILOT_OFFLINE="true")  # fmt: skip


def test_copilot(url, tmp_path):
    assert "apple pear" in copilot(url, tmp_path, "apple pear").stdout


def test_copilots_tools(url, secret, tmp_path):
    assert SECRET in copilot(url, tmp_path, f'view {{"path": "{secret}"}}', "--allow-all-tools").stdout
