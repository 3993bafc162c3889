"""bench/engine measures what it says, in turns. Speed is nothing to test: what is held here is that the numbers are there."""

import json
import subprocess
import sys
from pathlib import Path

from support.process import BINARY

RUN = Path(__file__).parents[1] / "bench/engine/run.py"


def run(*args) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, RUN, *map(str, args)], capture_output=True, text=True, timeout=240)


def test_serve_beside_the_chain(model, tmp_path):
    out = tmp_path / "out.json"
    done = run("--model", model, "--binary", BINARY, "--chain", "--pairs", 1, "--requests", 2, "--workload", "private:1",
               "--workload", "sampled:1", "--sequences", 2, "--kv-mib", 256, "--json", out)  # fmt: skip
    assert done.returncode == 0, done.stderr
    measured = json.loads(out.read_text())
    assert [list(rows) for rows in measured.values()] == [["cy-llm", "chain"]] * 2
    for [row] in [of for rows in measured.values() for of in rows.values()]:
        assert row["output tokens"] >= 64 and row["prompt tokens computed"] > 200 and row["tokens/s"] > 0
    head, *lines = done.stdout.strip().splitlines()
    assert "sampled:1, 1 turns" in done.stdout and "private:1, 1 turns" in head and head.endswith("chain / cy-llm")
    assert any(line.split()[0] == "tokens/s" for line in lines)


def test_nothing_to_compare_with_is_an_error(model):
    done = run("--model", model)
    assert done.returncode == 2 and "what to compare with" in done.stderr
