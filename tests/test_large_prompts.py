"""What a prompt of 16 MiB costs in memory at each hop, in copies of itself: the most that was ever resident."""

from pathlib import Path

from conftest import registry
from support.process import Process, http

SIZE = 16 << 20
# Measured: 6.0, 2.7 to 2.9, 5.6 to 6.0 (the echo engine's own included). One more copy anywhere is too many; what the
# worker's allocator keeps varies too much to tell one copy.
COPIES = {"gateway": 6.6, "coordinator": 3.4, "worker": 7.5}


def peak(process: Process) -> int:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def test_a_prompt_is_held_in_few_copies(chain):
    c = chain(registry(default={}))
    processes = {"gateway": c.gateway, "coordinator": c.coordinator, "worker": c.workers[0]}
    before = {name: peak(process) for name, process in processes.items()}
    prompt = ("w" * 1023 + " ") * (SIZE // 1024)
    ask = {"model": "default", "max_tokens": 1, "messages": [{"role": "user", "content": prompt}]}
    assert http.post(c.url + "/v1/chat/completions", json=ask).status_code == 200
    copies = {name: (peak(process) - before[name]) / SIZE for name, process in processes.items()}
    assert all(copies[name] < limit for name, limit in COPIES.items()), copies
