"""docs/write-an-engine.md, as it is told: the SDK is installed, the template is built against it and answers."""

import os
import re
import shlex
import subprocess

import pytest

from support.process import BINARY, http, run, wait_until
from test_documents import commands

DOCUMENT = "docs/write-an-engine.md"
BUILD = BINARY.parent.parent


def compiler() -> str:
    return re.search(r"^CMAKE_CXX_COMPILER:\w+=(.*)$", (BUILD / "CMakeCache.txt").read_text(), re.M)[1]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder in which everything up to `cy-llm engine-check` was typed."""
    folder = tmp_path_factory.mktemp("engine")
    env = os.environ | {"CXX": compiler(), "CMAKE_GENERATOR": "Ninja"}
    for line in commands(DOCUMENT):
        if not line.startswith(("cmake ", "cp ")):
            continue
        line = line.replace(" build/release ", f" {shlex.quote(str(BUILD))} ")
        done = subprocess.run(line, shell=True, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, (line, done.stdout + done.stderr)
    return folder


def told(folder, word: str) -> list[str]:
    """The arguments of `./cy-llm WORD`, with paths that lie in `folder`."""
    line = next(c for c in commands(DOCUMENT) if c.startswith(f"./cy-llm {word} "))
    args = shlex.split(line.rstrip("& "))[1:]
    return [str(folder / a) if a.startswith("my-engine/") else a for a in args]


def test_it_is_built_and_passes(home):
    assert (home / "my-engine/build/engines/shout/manifest.json").exists()
    done = run(*told(home, "engine-check"), "--quick", limit=300)
    assert done.returncode == 0, done.stdout


def test_it_is_listed_beside_nothing_else(home):
    done = run(*told(home, "engines"))
    assert done.returncode == 0 and done.stdout.startswith("shout") and "louder" in done.stdout


def test_it_answers(home, start):
    serve = start(*told(home, "serve"), "--listen", "127.0.0.1:0", expect=("gateway",))
    url = serve.address("gateway")
    wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
    line = next(c for c in commands(DOCUMENT) if c.startswith("curl "))
    args = [a.replace("http://127.0.0.1:8000", url) for a in shlex.split(line)]
    done = subprocess.run([*args, "--silent", "--noproxy", "*"], capture_output=True, text=True, timeout=60)
    assert '"CAN YOU HEAR ME"' in done.stdout, done.stdout + serve.log


def test_it_is_installed_with_its_manifest(home):
    done = subprocess.run(["cmake", "--install", "my-engine/build", "--prefix", "own"], cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = run("engines", "--engine-dir", home / "own/lib/cy-llm/engines").stdout
    assert listed.startswith("shout")


def test_a_manifest_that_names_another_library_is_found_when_it_is_configured(home, tmp_path):
    project = tmp_path / "wrong"
    subprocess.run(["cp", "-r", home / "sdk/share/cy-llm/engine-template", project], check=True)
    manifest = project / "manifest.json"
    manifest.write_text(manifest.read_text().replace("libcyllm_engine_shout.so", "libother.so"))
    done = subprocess.run(["cmake", "-S", project, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={home}/sdk"], capture_output=True,
                          text=True, env=os.environ | {"CXX": compiler(), "CMAKE_GENERATOR": "Ninja"})  # fmt: skip
    assert done.returncode != 0 and "'library' must be" in done.stderr
