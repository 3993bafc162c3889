"""What `./cy-llm test` says at its end."""

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[1] / "tools/sum_results.py"
GTEST = """<testsuites><testsuite name="A">
<testcase classname="A" name="Good" status="run" result="completed"/>
<testcase classname="A" name="Bad" status="run" result="completed"><failure>x.cc:3&#10;Actual: 2</failure></testcase>
<testcase classname="A" name="Skipped" status="run" result="skipped"><skipped/></testcase>
<testcase classname="A" name="DISABLED_Off" status="notrun" result="suppressed"/>
</testsuite></testsuites>"""
PYTEST = """<testsuites><testsuite><testcase classname="test_a" name="test_b"><failure>
    def stir():
E   OSError: the cause

The above exception was the direct cause of the following exception:
E   Warning: Exception in thread
</failure></testcase></testsuite></testsuites>"""


def summary(folder: Path) -> tuple[int, list[str]]:
    done = subprocess.run([sys.executable, str(TOOL), str(folder)], capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines()


def test_what_failed_is_said_with_its_reason(tmp_path):
    (tmp_path / "unit.xml").write_text(GTEST)
    (tmp_path / "pytest.xml").write_text(PYTEST)
    (tmp_path / "chaos.broken").write_text("see the log")
    (tmp_path / "fuzz.whole").touch()
    code, lines = summary(tmp_path)
    assert code == 1 and lines == [
        "skipped: 2 of A (unit)",
        "failed: test_a.test_b (pytest)", "    E   OSError: the cause", "    E   Warning: Exception in thread",
        "failed: A.Bad (unit)", "    x.cc:3", "    Actual: 2",
        "failed: chaos", "    see the log",
        "2 passed, 3 failed",
    ]  # fmt: skip


def test_all_is_well_only_if_something_passed(tmp_path):
    assert summary(tmp_path) == (1, ["0 passed, 0 failed"])
    (tmp_path / "unit.whole").touch()
    assert summary(tmp_path) == (0, ["1 passed, 0 failed"])
