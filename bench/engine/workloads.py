"""What is asked of the servers. Prompts and lengths depend on the seed and the round only: each server gets the same."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable

from client import Answer, Loop, Stream

WORDS = ("river stone window garden letter market engine silver cotton harbour winter candle bridge forest copper meadow "
         "island kitchen ladder mirror needle orange pencil rabbit saddle tunnel valley wagon yellow anchor basket").split()  # fmt: skip


def words(count: int, seed: str) -> str:
    source = random.Random(seed)
    return " ".join(source.choice(WORDS) for _ in range(count))


def chat(user: str, max_tokens: int, system: str = "", temperature: float = 0) -> dict:
    messages = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": user}]
    return {"model": "default", "messages": messages, "max_tokens": max_tokens, "temperature": temperature, "seed": 1,
            "ignore_eos": True}  # fmt: skip


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))] if ordered else float("nan")


def summary(answers: list[Answer], wall: float) -> dict[str, float]:
    for answer in answers:
        if answer.error:
            raise RuntimeError(answer.error)
    tokens = sum(a.completion_tokens for a in answers)
    gaps = [gap for a in answers for gap in a.gaps]
    # The steady part: the first and the last fifth, in which not all clients are busy, left out.
    begin = min(a.started for a in answers)
    low, high = begin + wall / 5, begin + wall * 4 / 5
    frames = [t for a in answers for t in a.times]
    return {
        "tokens/s": tokens / wall,
        "steady tokens/s": sum(low <= t < high for t in frames) / (high - low),
        "TTFT p50 ms": 1e3 * percentile([a.ttft for a in answers], 0.5),
        "TTFT p99 ms": 1e3 * percentile([a.ttft for a in answers], 0.99),
        "ITL p50 ms": 1e3 * percentile(gaps, 0.5),
        "ITL p99 ms": 1e3 * percentile(gaps, 0.99),
        "ITL max ms": 1e3 * max(gaps, default=0.0),
        "output tokens": float(tokens),
        "prompt tokens computed": float(sum(a.prompt_tokens - a.cached_tokens for a in answers)),
        "tokens per frame": tokens / max(1, len(frames)),
    }


def closed(port: int, round_: str, clients: int, requests: int, prompt: int = 120, shared: int = 0,
           temperature: float = 0) -> dict[str, float]:  # fmt: skip
    """So many clients, each asks again when it has its answer. `shared`: words of a system message that all send."""
    system = words(shared, f"system {round_}") if shared else ""
    left = [[(f"{round_}.{c}.{i}", random.Random(f"{round_}.{c}.{i}").randint(32, 96)) for i in range(-(-requests // clients))]
            for c in range(clients)]  # fmt: skip
    loop = Loop()

    def ask(client: int) -> None:
        if left[client]:
            tag, length = left[client].pop(0)
            stream = loop.start(Stream(port, chat(f"[{tag}] {words(prompt, tag)}", length, system, temperature)))
            stream.client = client

    begin = time.monotonic()
    for client in range(clients):
        ask(client)
    answers = loop.run(lambda stream: ask(stream.client))
    return summary(answers, time.monotonic() - begin)


SENTENCES = ["The {} near the {} was sold to a man from {} in the autumn of {}.", "Nobody had seen a {} in the {} since the {} burned down in {}.",
             "My sister put her {} beside the {} and wrote a letter about the {}, the {}th of that year.",
             "Every {} needs a good {}, as the owner of the {} used to say until {}.",
             "When the {} was full, they carried the {} over to the {} and counted {} of them.",
             "It took three years to build the {}, two to paint the {}, and one day to lose the {} for {} crowns."]  # fmt: skip


def text_of(seed: str) -> str:
    source = random.Random(seed)
    return " ".join(form.format(*source.sample(WORDS, 3), source.randint(1700, 2000)) for form in source.sample(SENTENCES, len(SENTENCES)))


def copy(port: int, round_: str, requests: int) -> dict[str, float]:
    """One client has texts edited: told to put one word in place of another, the answer begun for it."""
    answers, begin = [], time.monotonic()
    for i in range(requests):
        tag = f"{round_}.{i}"
        text = text_of(tag)
        word = next(w for w in text.replace(",", "").split() if w in WORDS)
        edited = text.replace(word, "lamp")
        body = chat(f"[{tag}] Write this text again with lamp in place of {word}, and nothing else changed:\n\n{text}", 70)
        body["messages"].append({"role": "assistant", "content": " ".join(edited.split()[:12])})
        loop = Loop()
        loop.start(Stream(port, body))
        answers += loop.run()
    return summary(answers, time.monotonic() - begin)


def stall(port: int, round_: str, clients: int, long: int = 3000, tokens: int = 300) -> dict[str, float]:
    """A long prompt comes while others decode."""
    loop = Loop()
    streams = [loop.start(Stream(port, chat(f"[{round_}.{c}] {words(40, f'{round_}.{c}')}", tokens))) for c in range(clients)]
    long_one: list[Stream] = []

    def tick() -> None:
        if not long_one and all(len(s.marks) > 20 for s in streams):
            long_one.append(loop.start(Stream(port, chat(f"[long {round_}] {words(long, f'long {round_}')}", 4))))

    answers = loop.run(tick=tick)
    for answer in answers:
        if answer.error:
            raise RuntimeError(answer.error)
    *others, last = answers
    begin, end = last.started, last.times[0]
    before = [b - a for o in others for a, b in zip(o.times, o.times[1:]) if b <= begin]
    during = [b - a for o in others for a, b in zip(o.times, o.times[1:]) if b > begin and a < end]
    return {
        "long prompt tokens": float(last.prompt_tokens),
        "long prompt's TTFT ms": 1e3 * last.ttft,
        "gap before p50 ms": 1e3 * statistics.median(before),
        "longest gap during ms": 1e3 * max(during, default=0.0),
        "tokens/s of the others during": sum(begin < t <= end for o in others for t in o.times) / (end - begin),
    }


def cancel(port: int, round_: str, clients: int, cpu: Callable[[], float], repeats: int = 5, long: int = 3000) -> dict[str, float]:
    """Clients that hang up. In the prefill of a long prompt that is alone: what is still computed, in time of all of `cpu`'s cores
    (its seconds). In mid-stream, all at once: the first token of who comes then."""
    after, first = [], []
    for i in range(repeats):
        stream = Stream(port, chat(f"[cut {round_}.{i}] {words(long, f'cut {round_}.{i}')}", 4))
        time.sleep(0.4)
        stream.socket.close()
        before = cpu()
        time.sleep(0.6)
        after.append(1e3 * (cpu() - before) / len(os.sched_getaffinity(0)))
        loop = Loop()
        streams = [loop.start(Stream(port, chat(f"[{round_}.{i}.{c}] {words(40, f'{round_}.{i}.{c}')}", 300))) for c in range(clients)]
        while any(len(s.marks) < 10 for s in streams):
            for key, _ in loop.selector.select(0.02):
                key.data.receive()
        for stream in streams:
            loop.selector.unregister(stream.socket)
            stream.socket.close()
        loop = Loop()
        loop.start(Stream(port, chat(f"[next {round_}.{i}] {words(8, f'next {round_}.{i}')}", 4)))
        (answer,) = loop.run()
        if answer.error:
            raise RuntimeError(answer.error)
        first.append(1e3 * answer.ttft)
        time.sleep(0.3)
    return {"computed after a hang-up ms": statistics.median(after), "most ms": max(after),
            "next one's TTFT ms": statistics.median(first)}  # fmt: skip
