"""Writes a LoRA of random numbers as GGUF, for the test model (SmolLM2-135M)."""

import random
import struct
from array import array
from pathlib import Path

WIDTH, LAYERS, RANK = 576, 30, 4  # of attn_q, a square
STRING, F32 = 8, 6
ALIGNMENT = 32


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def write(path: Path, seed: int, architecture: str = "llama") -> Path:
    numbers = random.Random(seed)
    keys = {"general.type": "adapter", "general.architecture": architecture, "adapter.type": "lora"}
    head = b"".join(text(key) + struct.pack("<I", STRING) + text(value) for key, value in keys.items())
    head += text("adapter.lora.alpha") + struct.pack("<If", F32, 64.0)
    infos, data = b"", b""
    layers = range(0, LAYERS, 5)
    for layer in layers:
        for part, shape, deviation in (("a", (WIDTH, RANK), 0.05), ("b", (RANK, WIDTH), 0.5)):
            infos += text(f"blk.{layer}.attn_q.weight.lora_{part}") + struct.pack("<IQQIQ", 2, *shape, 0, len(data))
            data += array("f", (numbers.gauss(0, deviation) for _ in range(WIDTH * RANK))).tobytes()
    head = b"GGUF" + struct.pack("<IQQ", 3, 2 * len(layers), len(keys) + 1) + head + infos
    path.write_bytes(head + b"\0" * (-len(head) % ALIGNMENT) + data)
    return path
