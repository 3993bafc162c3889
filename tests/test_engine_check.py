"""`cy-llm engines`, and `cy-llm engine-check` against the plugins as they are built. That it finds broken ones: src/worker/engine_check."""

import json
from pathlib import Path

import pytest

from support.process import BINARY, run

ECHO = BINARY.parent / "engines/echo/libcyllm_engine_echo.so"
LLAMA_CPP = BINARY.parent / "engines/llama_cpp/libcyllm_engine_llama_cpp.so"
SMALL = json.dumps({"model": {"max_model_len": 512, "max_num_seqs": 4, "max_waiting": 32}, "threads": 1})


def test_echo_passes():
    done = run("engine-check", ECHO, "--quick", limit=300)
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[-1].endswith(" checks, 0 failed")
    assert all(line.startswith(("pass  ", "skip  ")) for line in lines[:-1])


def test_failures_are_named_and_are_the_exit_status(tmp_path):
    done = run("engine-check", ECHO, "--config", '{"model": {"load_fails": true}}', "--only", "chats")
    assert done.returncode == 1
    assert "FAIL  chats: create failed: echo: load_fails is set" in done.stdout
    plugin = tmp_path / "plugin.so"
    plugin.write_text("no library")
    done = run("engine-check", plugin)
    assert done.returncode == 1 and "FAIL  the library loads: " in done.stdout and "1 checks, 1 failed" in done.stdout


@pytest.mark.parametrize("args", [(), (ECHO, "--only", "no such"), (ECHO, "--config", "[]"), (ECHO, "--model", "/not/there")])
def test_wrong_usage(args):
    done = run("engine-check", *args)
    assert done.returncode == 2 and done.stderr


def test_llama_cpp_keeps_the_rules_of_every_event(model):
    only = "END comes once and last,events come in order,usage and offsets add up,credit is obeyed,resuming"
    done = run("engine-check", LLAMA_CPP, "--model", model, "--config", SMALL, "--only", only, limit=600)
    assert done.returncode == 0, done.stdout


@pytest.mark.long
def test_llama_cpp_passes(model):
    done = run("engine-check", LLAMA_CPP, "--model", model, "--config", SMALL, "--limit", "300", limit=1800)
    assert done.returncode == 0, done.stdout


def test_engines_are_listed_unloaded_with_what_stands_against_them(tmp_path):
    listed = json.loads(run("engines", "--json").stdout)
    plugins = {p["name"]: p for p in listed["plugins"]}
    for name in ("echo", "llama_cpp"):
        assert plugins[name]["runs_here"] and plugins[name]["abi"] == "1.2" and "chat" in plugins[name]["capabilities"]
    assert {"vllm", "sglang", "ollama"} <= {s["name"] for s in listed["servers"]}

    for name, abi, devices in (("future", 2, ["cpu"]), ("chip", 1, ["ascend"])):
        (tmp_path / name).mkdir()
        manifest = {"name": name, "version": "7", "library": ECHO.name, "abi": {"major": abi, "minor": 0},
                    "capabilities": ["chat"], "devices": devices}  # fmt: skip
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
        (tmp_path / name / ECHO.name).write_bytes(ECHO.read_bytes())
    text = run("engines", "--engine-dir", tmp_path).stdout
    assert "future, 7 (ABI 2.0): cannot run here: made for ABI 2.0, this program offers 1.2\n" in text
    if not any(Path("/dev").glob("davinci*")):
        assert "chip, 7 (ABI 1.0): cannot run here: needs ascend, and there is none here\n" in text
