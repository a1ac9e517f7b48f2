"""Writes the GGUF, GGML and GGJT files of `gguf/` that tests/checkpoint/gguf.rs reads, and what their numbers are.

    pip install gguf numpy safetensors
    python tests/formats/make_gguf.py

It writes the same bytes every time. The files here come from gguf 0.19.0; another version may order metadata otherwise.

- `whole_head.gguf`: the golden of this name with its matrices in F16, so that transformers' logits are those of the golden.
- `mixed.gguf`: random weights in every element type that can be loaded, with the tokenizer of tests/golden/bpe.
- `mixed.bin`, `mixed-ggjt.bin`: the same in the formats before GGUF, BF16 as F32.
- `mixed/`: the same as a Hugging Face directory in F32, its numbers as gguf's own `dequantize` gives them.
- `raw_tokens.gguf`: metadata only, with tokens as bytes and without their kinds, as GPT4All's converter writes them.
"""

import json
import struct
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants
from safetensors.numpy import load_file, save_file

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
OUT = HERE / "gguf"

ALIGNMENT = 64  # not the default
MIXED = dict(
    model_type="gptj", vocab_size=313, n_positions=64, n_embd=32, n_layer=2, n_head=2, rotary_dim=8, n_inner=96,
    layer_norm_epsilon=1e-4, eos_token_id=299,
)  # fmt: skip
TYPES = [Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.F16, Type.BF16, Type.F32]


# ---- models ---------------------------------------------------------------------------------------------------------


def shapes(config):
    """Every tensor of a model under Hugging Face's name."""
    embd, inner, vocab = config["n_embd"], config["n_inner"], config["vocab_size"]
    yield "transformer.wte.weight", (vocab, embd)
    for layer in range(config["n_layer"]):
        block = f"transformer.h.{layer}"
        yield f"{block}.ln_1.weight", (embd,)
        yield f"{block}.ln_1.bias", (embd,)
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"{block}.attn.{projection}.weight", (embd, embd)
        yield f"{block}.mlp.fc_in.weight", (inner, embd)
        yield f"{block}.mlp.fc_in.bias", (inner,)
        yield f"{block}.mlp.fc_out.weight", (embd, inner)
        yield f"{block}.mlp.fc_out.bias", (embd,)
    yield "transformer.ln_f.weight", (embd,)
    yield "transformer.ln_f.bias", (embd,)
    yield "lm_head.weight", (vocab, embd)
    yield "lm_head.bias", (vocab,)


def mixed():
    """Random tensors as (type, bytes as stored, numbers as decoded, shape), matrices in all types in turn."""
    random = np.random.default_rng(6)
    tensors, matrices = {}, 0
    for name, shape in shapes(MIXED):
        numbers = random.standard_normal(shape).astype(np.float32)
        kind = Type.F32
        if len(shape) == 2:
            numbers /= np.sqrt(np.float32(shape[1]))
            kind, matrices = TYPES[matrices % len(TYPES)], matrices + 1
        stored = numbers if kind == Type.F32 else quants.quantize(numbers, kind)
        decoded = numbers if kind == Type.F32 else quants.dequantize(stored, kind).astype(np.float32)
        tensors[name] = (kind, stored, decoded.reshape(shape), shape)
    return tensors


def bpe():
    """The tokens of tests/golden/bpe by id, their types, and the merges."""
    folder = GOLDEN / "bpe"
    vocab = json.loads((folder / "vocab.json").read_text())
    added = json.loads((folder / "added_tokens.json").read_text())
    tokens = sorted(vocab | added, key=(vocab | added).get)
    types = [gguf.TokenType.USER_DEFINED if token in added else gguf.TokenType.NORMAL for token in tokens]
    types[vocab["<|endoftext|>"]] = gguf.TokenType.CONTROL
    merges = [line for line in (folder / "merges.txt").read_text().split("\n") if line and line[0] != "#"]
    return tokens, types, merges


# ---- GGUF -----------------------------------------------------------------------------------------------------------


def write_gguf(path, config, tensors, vocabulary=None, alignment=None):
    writer = gguf.GGUFWriter(path, "gptj")
    if alignment:
        writer.add_custom_alignment(alignment)
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_feed_forward_length(config["n_inner"] or 4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_rope_dimension_count(config["rotary_dim"] or config["n_embd"] // config["n_head"])
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    if vocabulary:
        tokens, types, merges = vocabulary
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(tokens)
        if types:
            writer.add_tokenizer_pre("gpt-2")
            writer.add_token_types(types)
        writer.add_token_merges(merges)
        writer.add_eos_token_id(config["eos_token_id"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPTJ, config["n_layer"])
    for name, (kind, stored, _, _) in tensors.items():
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- before GGUF ----------------------------------------------------------------------------------------------------


def write_legacy(path, config, tensors, tokens, ggjt_version=None):
    keys = ("vocab_size", "n_positions", "n_embd", "n_head", "n_layer", "rotary_dim")
    with open(path, "wb") as file:
        file.write(struct.pack("<I", 0x67676D6C if ggjt_version is None else 0x67676A74))
        if ggjt_version is not None:
            file.write(struct.pack("<I", ggjt_version))
        file.write(struct.pack("<6i", *(config[key] for key in keys)))
        file.write(struct.pack("<2i", 2002, config["vocab_size"]))  # 2: mostly Q4_0; 2000: f16 scales
        for token in tokens:
            file.write(struct.pack("<i", len(token)) + token)
            if ggjt_version is not None:
                file.write(struct.pack("<f", 0.0))
        for name, (kind, stored, decoded, shape) in tensors.items():
            if kind == Type.BF16:
                kind, stored = Type.F32, decoded
            file.write(struct.pack("<3i", len(shape), len(name), kind))
            file.write(struct.pack(f"<{len(shape)}i", *reversed(shape)) + name.encode())
            if ggjt_version is not None:
                file.write(b"\0" * (-file.tell() % 32))
            file.write(stored.tobytes())


def raw(token):
    """The bytes that GPT-2's spelling of a token stands for."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
    return bytes(letters[letter] for letter in token)


def main():
    OUT.mkdir(exist_ok=True)
    golden = load_file(GOLDEN / "whole_head" / "model.safetensors")
    config = json.loads((GOLDEN / "whole_head" / "config.json").read_text())
    tensors = {}
    for name, numbers in golden.items():
        kind = Type.F16 if numbers.ndim == 2 else Type.F32
        stored = numbers.astype(np.float16 if numbers.ndim == 2 else np.float32)
        tensors[name] = (kind, stored, None, numbers.shape)
    write_gguf(OUT / "whole_head.gguf", config, tensors)

    tokens, types, merges = bpe()
    tensors = mixed()
    padded = [*tokens, "[PAD312]"]
    write_gguf(OUT / "mixed.gguf", MIXED, tensors, (padded, [*types, gguf.TokenType.UNUSED], merges), ALIGNMENT)
    write_gguf(OUT / "raw_tokens.gguf", MIXED, {}, ([raw(token) for token in padded], None, merges))
    write_legacy(OUT / "mixed.bin", MIXED, tensors, [raw(token) for token in padded])
    write_legacy(OUT / "mixed-ggjt.bin", MIXED, tensors, [raw(token) for token in padded], ggjt_version=3)

    (OUT / "mixed").mkdir(exist_ok=True)
    (OUT / "mixed" / "config.json").write_text(json.dumps(MIXED, indent=2) + "\n")
    save_file({name: decoded for name, (_, _, decoded, _) in tensors.items()}, OUT / "mixed" / "model.safetensors")


if __name__ == "__main__":
    main()
