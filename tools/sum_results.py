#!/usr/bin/env python3
"""sum_results.py FOLDER: adds up the JUnit files that GoogleTest, CTest and pytest left below FOLDER, names what
failed, and prints "N passed, N failed" last. Parts without such files count as one test each: *.whole passed, *.broken
failed."""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def cases(path: Path):
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        name = ".".join(filter(None, (case.get("classname"), case.get("name"))))
        if "skipped" in kinds or case.get("status") == "notrun" or case.get("result") == "skipped":
            yield name, "skipped"
        else:
            yield name, "failed" if kinds & {"failure", "error"} else "passed"


def main(folder: Path) -> int:
    count = {"passed": 0, "failed": 0, "skipped": 0}
    for path in sorted(folder.rglob("*.xml")):
        for name, result in cases(path):
            count[result] += 1
            if result != "passed":
                print(f"{result}: {name} ({path.stem})")
    count["passed"] += len(list(folder.rglob("*.whole")))
    for path in sorted(folder.rglob("*.broken")):
        count["failed"] += 1
        print(f"failed: {path.stem}: {path.read_text().strip()}")
    if count["skipped"]:
        print(f"{count['skipped']} skipped")
    print(f"{count['passed']} passed, {count['failed']} failed")
    return 1 if count["failed"] or not count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
