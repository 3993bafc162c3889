"""Models of a few hundred kilobytes with random weights, for what the default model cannot show: sliding windows, recurrent
memory, both together, encoders that rank and embed, infill. Written with llama.cpp's own gguf package; the names of keys and tensors are those of its
model files. The same seed gives the same file.

    python tests/support/tiny_models.py FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, HIDDEN, CONTEXT = 128, 3, 4, 256, 2048
CONTROL = ["<unk>", "<s>", "</s>", "<fim_pre>", "<fim_suf>", "<fim_mid>", "<sep>"]


class Tiny:
    def __init__(self, path: Path, arch: str, seed: int):
        self.out = gguf.GGUFWriter(path, arch)
        self.arch, self.random = arch, np.random.default_rng(seed)
        self.out.add_name(f"tiny {arch}")
        self.key("context_length", CONTEXT)
        self.key("embedding_length", WIDTH)
        self.key("block_count", LAYERS)

    def key(self, name: str, value) -> None:
        name = f"{self.arch}.{name}"
        if isinstance(value, list):
            self.out.add_array(name, value)
        elif isinstance(value, bool):
            self.out.add_bool(name, value)
        elif isinstance(value, int):
            self.out.add_uint32(name, value)
        else:
            self.out.add_float32(name, value)

    def vocabulary(self, **ids: int) -> int:
        """Bytes and some words; the number of tokens."""
        words = ["▁"] + [f"▁{w}" for w in "the rain fell on house and over river it was".split()]
        tokens = CONTROL + [f"<0x{b:02X}>" for b in range(256)] + words
        kind = gguf.TokenType
        types = [kind.UNKNOWN] + [kind.CONTROL] * (len(CONTROL) - 1) + [kind.BYTE] * 256 + [kind.NORMAL] * len(words)
        self.out.add_tokenizer_model("llama")
        self.out.add_tokenizer_pre("default")
        self.out.add_token_list(tokens)
        self.out.add_token_scores([0.0] * (len(tokens) - len(words)) + [float(len(w)) for w in words])
        self.out.add_token_types(types)
        self.out.add_bos_token_id(1)
        self.out.add_eos_token_id(2)
        self.out.add_unk_token_id(0)
        for name, value in ids.items():
            self.out.add_uint32(f"tokenizer.ggml.{name}_token_id", value)
        return len(tokens)

    def tensor(self, name: str, *shape: int, scale: float | None = None, exact: bool = False) -> None:
        """`shape`: outer dimension first. Scaled so that activations keep their size; matrices are quantised, as most are that
        people use."""
        scale = shape[-1] ** -0.5 if scale is None else scale
        values = (self.random.standard_normal(shape) * scale).astype(np.float32)
        if exact or len(shape) == 1 or shape[-1] % 32:
            self.out.add_tensor(name, values)
        else:
            q8 = gguf.GGMLQuantizationType.Q8_0
            self.out.add_tensor(name, gguf.quants.quantize(values, q8), raw_dtype=q8)

    def ones(self, name: str, *shape: int, value: float = 1.0) -> None:
        self.out.add_tensor(name, np.full(shape, value, np.float32))

    def linear(self, name: str, out: int, inner: int) -> None:
        self.tensor(f"{name}.weight", out, inner)
        self.tensor(f"{name}.bias", out, scale=0.1)

    def attention_keys(self, kv_heads=HEADS // 2) -> None:
        """`kv_heads`: of all layers, or a list."""
        self.key("feed_forward_length", HIDDEN)
        self.key("attention.head_count", HEADS)
        self.key("attention.head_count_kv", kv_heads)
        self.key("attention.layer_norm_rms_epsilon", 1e-6)

    def attention(self, block: str, kv: int) -> None:
        self.tensor(f"{block}.attn_q.weight", WIDTH, WIDTH)
        self.tensor(f"{block}.attn_k.weight", kv, WIDTH)
        self.tensor(f"{block}.attn_v.weight", kv, WIDTH)
        self.tensor(f"{block}.attn_output.weight", WIDTH, WIDTH)

    def gated(self, block: str) -> None:
        self.tensor(f"{block}.ffn_gate.weight", HIDDEN, WIDTH)
        self.tensor(f"{block}.ffn_up.weight", HIDDEN, WIDTH)
        self.tensor(f"{block}.ffn_down.weight", WIDTH, HIDDEN)

    def close(self) -> None:
        self.out.write_header_to_file()
        self.out.write_kv_data_to_file()
        self.out.write_tensors_to_file()
        self.out.close()


def plain(path: Path) -> None:
    """Full attention, with tokens for infill."""
    m = Tiny(path, "llama", 1)
    m.attention_keys()
    m.key("rope.dimension_count", WIDTH // HEADS)
    n = m.vocabulary(fim_pre=3, fim_suf=4, fim_mid=5)
    m.tensor("token_embd.weight", n, WIDTH, scale=1.0)
    m.ones("output_norm.weight", WIDTH)
    m.tensor("output.weight", n, WIDTH, scale=1.0)
    for i in range(LAYERS):
        block = f"blk.{i}"
        m.ones(f"{block}.attn_norm.weight", WIDTH)
        m.attention(block, WIDTH // 2)
        m.ones(f"{block}.ffn_norm.weight", WIDTH)
        m.gated(block)
    m.close()


def sliding(path: Path) -> None:
    """Windows of 32 tokens in five layers of six."""
    m = Tiny(path, "gemma3", 2)
    m.attention_keys()
    m.key("attention.key_length", WIDTH // HEADS)
    m.key("attention.value_length", WIDTH // HEADS)
    m.key("attention.sliding_window", 32)
    m.key("rope.freq_base", 10000.0)
    n = m.vocabulary()
    m.tensor("token_embd.weight", n, WIDTH, scale=0.2)
    m.ones("output_norm.weight", WIDTH)
    for i in range(LAYERS):
        block = f"blk.{i}"
        for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            m.ones(f"{block}.{name}.weight", WIDTH)
        for name in ("attn_q_norm", "attn_k_norm"):
            m.ones(f"{block}.{name}.weight", WIDTH // HEADS)
        m.attention(block, WIDTH // 2)
        m.gated(block)
    m.close()


def recurrent(path: Path) -> None:
    """State-space layers: no cache of tokens to cut."""
    m = Tiny(path, "mamba", 3)
    inner, state, conv, rank = 2 * WIDTH, 16, 4, 4
    for name, value in {"feed_forward_length": 0, "attention.head_count": 0, "ssm.conv_kernel": conv, "ssm.inner_size": inner,
                        "ssm.state_size": state, "ssm.time_step_rank": rank, "attention.layer_norm_rms_epsilon": 1e-5}.items():  # fmt: skip
        m.key(name, value)
    n = m.vocabulary()
    m.tensor("token_embd.weight", n, WIDTH, scale=1.0)
    m.ones("output_norm.weight", WIDTH)
    m.tensor("output.weight", n, WIDTH, scale=1.0)
    for i in range(LAYERS):
        block = f"blk.{i}"
        m.ones(f"{block}.attn_norm.weight", WIDTH)
        m.tensor(f"{block}.ssm_in.weight", 2 * inner, WIDTH)
        m.tensor(f"{block}.ssm_conv1d.weight", inner, conv)
        m.tensor(f"{block}.ssm_conv1d.bias", inner, scale=0.1)
        m.tensor(f"{block}.ssm_x.weight", rank + 2 * state, inner)
        m.tensor(f"{block}.ssm_dt.weight", inner, rank)
        m.ones(f"{block}.ssm_dt.bias", inner, value=-3.0)
        m.out.add_tensor(f"{block}.ssm_a", -np.tile(np.arange(1, state + 1, dtype=np.float32), (inner, 1)))
        m.ones(f"{block}.ssm_d", inner)
        m.tensor(f"{block}.ssm_out.weight", WIDTH, inner)
    m.close()


def hybrid(path: Path) -> None:
    """A layer of attention between two of short convolutions, whose state is the last two inputs."""
    m = Tiny(path, "lfm2", 5)
    m.attention_keys([HEADS // 2 if i == 1 else 0 for i in range(LAYERS)])
    m.key("shortconv.l_cache", 3)
    n = m.vocabulary()
    m.tensor("token_embd.weight", n, WIDTH, scale=1.0)
    m.ones("token_embd_norm.weight", WIDTH)  # of the output, by an old mistake of a name
    m.tensor("output.weight", n, WIDTH, scale=1.0)
    for i in range(LAYERS):
        block = f"blk.{i}"
        m.ones(f"{block}.attn_norm.weight", WIDTH)
        if i == 1:
            m.ones(f"{block}.attn_q_norm.weight", WIDTH // HEADS)
            m.ones(f"{block}.attn_k_norm.weight", WIDTH // HEADS)
            m.attention(block, WIDTH // 2)
        else:
            m.tensor(f"{block}.shortconv.conv.weight", WIDTH, 3)
            m.tensor(f"{block}.shortconv.in_proj.weight", 3 * WIDTH, WIDTH)
            m.tensor(f"{block}.shortconv.out_proj.weight", WIDTH, WIDTH)
        m.ones(f"{block}.ffn_norm.weight", WIDTH)
        m.gated(block)
    m.close()


def encoder(path: Path, seed: int, pooling: int) -> Tiny:
    """A BERT without a head, not closed."""
    m = Tiny(path, "bert", seed)
    m.key("feed_forward_length", HIDDEN)
    m.key("attention.head_count", HEADS)
    m.key("attention.layer_norm_epsilon", 1e-6)
    m.key("attention.causal", False)
    m.key("pooling_type", pooling)
    n = m.vocabulary(seperator=6)  # as llama.cpp spells it
    m.out.add_token_type_count(2)
    m.out.add_uint32("tokenizer.ggml.cls_token_id", 1)
    m.tensor("token_embd.weight", n, WIDTH, scale=0.5)
    m.tensor("token_types.weight", 2, WIDTH, scale=0.1, exact=True)
    m.tensor("position_embd.weight", CONTEXT, WIDTH, scale=0.1, exact=True)

    def norm(name: str):
        m.ones(f"{name}.weight", WIDTH)
        m.ones(f"{name}.bias", WIDTH, value=0.0)

    norm("token_embd_norm")
    for i in range(LAYERS):
        block = f"blk.{i}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            m.linear(f"{block}.{name}", WIDTH, WIDTH)
        norm(f"{block}.attn_output_norm")
        m.linear(f"{block}.ffn_up", HIDDEN, WIDTH)
        m.linear(f"{block}.ffn_down", WIDTH, HIDDEN)
        norm(f"{block}.layer_output_norm")
    return m


def ranking(path: Path) -> None:
    """An encoder with a head of one score."""
    m = encoder(path, 4, pooling=4)
    m.linear("cls", WIDTH, WIDTH)
    m.linear("cls.output", 1, WIDTH)
    m.close()


def embedding(path: Path) -> None:
    """An encoder whose answer is the mean over the tokens."""
    encoder(path, 6, pooling=1).close()


MODELS = {"plain": plain, "sliding": sliding, "recurrent": recurrent, "hybrid": hybrid, "ranking": ranking, "embedding": embedding}


def write(folder: Path) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"tiny-{name}.gguf" for name in MODELS}
    for name, make in MODELS.items():
        make(paths[name])
    return paths


if __name__ == "__main__":
    for path in write(Path(sys.argv[1])).values():
        print(path)
