"""The real engine against engines/sdk/conformance (echo's run is a unit test)."""

import json
import subprocess

import pytest

from support.process import BINARY


@pytest.mark.long
def test_llama_cpp_keeps_the_abis_rules(model):
    plugin = BINARY.parent / "engines/llama_cpp/libcyllm_engine_llama_cpp.so"
    config = json.dumps({"model": {"id": "m", "path": model}})
    result = subprocess.run([str(BINARY.parent / "cyllm-engine-conformance"), str(plugin), config],
                            capture_output=True, text=True, timeout=900)  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert "0 failed" in result.stdout
