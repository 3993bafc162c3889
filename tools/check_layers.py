#!/usr/bin/env python3
"""Keeps ARCHITECTURE.md's picture true: which folder may include which, and where network headers may appear.

Looks at #include lines only. Prints each offence; exit status 1 when there is one."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

# folder -> folders whose headers it may include, besides its own
ALLOWED = {
    "base": set(),
    "async": {"base"},
    "inference": {"base", "async"},
    "gateway": {"base", "async", "inference"},
    "coordinator": {"base", "async", "inference"},
    "upstream": {"base", "async", "inference"},
    "worker": {"base", "async", "inference", "sdk", "upstream"},
    "cli": {"base", "async", "inference", "gateway", "coordinator", "worker", "upstream"},
    "sdk": set(),
    "template": {"sdk"},
    "echo": {"sdk"},
    "llama_cpp": {"sdk"},
}
ALWAYS = {"ai_service.pb.h", "ai_service.grpc.pb.h"}

# third-party header prefix -> folders (prefixes of the path below src/ or engines/) that may include it
NETWORK = {
    "boost/asio": ("async/", "gateway/http/", "upstream/"),
    "boost/beast": ("async/", "gateway/http/", "upstream/"),
    "grpc": ("inference/",),
    "curl/": ("worker/models/", "cli/client/", "upstream/"),
}


def layer_of(include: str) -> str | None:
    head = include.split("/")[0]
    return head if head in ALLOWED and "/" in include else None


def offences(path: Path, place: str):
    layer = place.split("/")[0]
    test = path.stem.endswith("_test")
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
        if not match:
            continue
        quoted, include = match[1] == '"', match[2]
        other = layer_of(include)
        if quoted and other and other != layer and other not in ALLOWED[layer]:
            yield f"{path.relative_to(ROOT)}:{number}: {layer}/ must not include {include}"
        if layer in ("sdk", "echo", "llama_cpp") and include in ALWAYS:
            yield f"{path.relative_to(ROOT)}:{number}: an engine must not include {include}"
        for prefix, places in NETWORK.items():
            if include.startswith(prefix) and not test and not place.startswith(places):
                yield f"{path.relative_to(ROOT)}:{number}: {include} belongs to {', '.join(places)} only"


def main() -> int:
    found = []
    for base in ("src", "engines"):
        for path in sorted((ROOT / base).rglob("*")):
            if path.suffix in (".h", ".hpp", ".cc", ".c"):
                found += offences(path, str(path.relative_to(ROOT / base)))
    print("\n".join(found) if found else "layers: as they should be")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
