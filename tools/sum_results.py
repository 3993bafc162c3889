#!/usr/bin/env python3
"""sum_results.py FOLDER: adds up the JUnit files that GoogleTest, CTest and pytest left below FOLDER, counts what was
skipped by group, says what failed and why, and prints "N passed, N failed" last. Parts without such files count as one
test each: *.whole passed, *.broken failed."""

import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

WHY_LINES = 30  # of one failure


def cases(path: Path):
    """(group, name, result, why) of each test."""
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        group, name = case.get("classname", ""), case.get("name", "")
        failures = [child for child in case if child.tag in ("failure", "error")]
        if failures:
            yield group, name, "failed", "\n".join(map(why, failures))
        elif case.find("skipped") is not None or case.get("result") == "skipped" or case.get("status") == "notrun":
            yield group, name, "skipped", ""
        else:
            yield group, name, "passed", ""


def why(failure) -> str:
    """GoogleTest's text whole; of pytest's the lines that it marks, which name a chained cause too."""
    lines = (failure.text or failure.get("message") or "").strip().splitlines()
    marked = [line for line in lines if line.startswith("E  ")]
    return "\n".join((marked or lines)[:WHY_LINES])


def main(folder: Path) -> int:
    count, skipped, failed = Counter(), Counter(), []
    for path in sorted(folder.rglob("*.xml")):
        for group, name, result, reason in cases(path):
            count[result] += 1
            if result == "skipped":
                skipped[f"{group} ({path.stem})"] += 1
            elif result == "failed":
                failed.append((".".join(filter(None, (group, name))) + f" ({path.stem})", reason))
    count["passed"] += len(list(folder.rglob("*.whole")))
    for path in sorted(folder.rglob("*.broken")):
        count["failed"] += 1
        failed.append((path.stem, path.read_text().strip()))
    for group, n in sorted(skipped.items()):
        print(f"skipped: {n} of {group}")
    for name, reason in failed:
        print(f"failed: {name}")
        print("\n".join("    " + line for line in reason.splitlines()))
    print(f"{count['passed']} passed, {count['failed']} failed")
    return 1 if count["failed"] or not count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
