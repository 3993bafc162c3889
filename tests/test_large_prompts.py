"""What a prompt of 16 MiB costs in memory at each hop, in copies of itself: the most that was ever resident."""

from pathlib import Path

import pytest

from conftest import registry
from support.process import Process, http

SIZE = 16 << 20
# Measured: 3.0 to 3.3 (the body, its JSON, the messages for the engine; then these alone), 1.3 to 1.6, 5.4 to 6.7 (the
# echo engine's own included). One more copy anywhere is too many; what the worker's allocator keeps varies too much to
# tell one copy.
COPIES = {"gateway": 3.8, "coordinator": 2.2, "worker": 7.5}
LINES = {"plain": "w" * 1023 + " ", "escaped": ("w" * 62 + '\n"') * 16}


def peak(process: Process) -> int:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize("line", LINES)
def test_a_prompt_is_held_in_few_copies(chain, line):
    c = chain(registry(default={}))
    processes = {"gateway": c.gateway, "coordinator": c.coordinator, "worker": c.workers[0]}
    before = {name: peak(process) for name, process in processes.items()}
    prompt = LINES[line] * (SIZE // 1024)
    ask = {"model": "default", "max_tokens": 1, "messages": [{"role": "user", "content": prompt}]}
    assert http.post(c.url + "/v1/chat/completions", json=ask).status_code == 200
    copies = {name: (peak(process) - before[name]) / SIZE for name, process in processes.items()}
    assert all(copies[name] < limit for name, limit in COPIES.items()), copies
