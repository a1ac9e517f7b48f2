"""Writes a GPT-J checkpoint of any size with random weights, to load, measure and time where real weights are too far.

    pip install numpy (and torch, for --format bin)
    python tests/make_random_model.py /tmp/random-1b
    python tests/make_random_model.py /tmp/random-6b --preset 6b --shard-size 2000
    python tests/make_random_model.py /tmp/random-6b-bin --preset 6b --format bin --shard-size 1000
    python tests/make_random_model.py /tmp/odd --n-embd 96 --n-layer 3 --n-head 3 --rotary-dim 32 --vocab-size 500

Weights go to disk a few megabytes at a time, or as PyTorch's files a file at a time, so memory does not grow with the model. A seed fixes every tensor by
itself: sharding moves tensors between files without changing them, and another dtype only rounds them.
"""

import argparse
import json
import math
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Dtype(NamedTuple):
    name: str  # as config.json spells it
    size: int  # bytes


PRESETS = {  # 1.1 and 6.05 billion parameters
    "1b": dict(vocab_size=50400, n_positions=2048, n_embd=2048, n_layer=18, n_head=16, rotary_dim=64),
    "6b": dict(vocab_size=50400, n_positions=2048, n_embd=4096, n_layer=28, n_head=16, rotary_dim=64),
}
DTYPES = {"f16": Dtype("float16", 2), "bf16": Dtype("bfloat16", 2), "f32": Dtype("float32", 4)}
CHUNK = 1 << 20  # weights drawn at a time


class Tensor(NamedTuple):
    name: str
    shape: tuple
    mean: float
    deviation: float

    def count(self):
        return math.prod(self.shape)


def tensors(config):
    """Every tensor of the model, in its order."""
    embd, vocab = config["n_embd"], config["vocab_size"]
    inner = config["n_inner"] or 4 * embd

    def layer_norm(name):
        yield Tensor(f"{name}.weight", (embd,), 1.0, 0.1)
        yield Tensor(f"{name}.bias", (embd,), 0.0, 0.1)

    def linear(name, outputs, inputs, bias=True, gain=1.0):
        # Outputs as large as inputs, so that activations neither fade nor overflow, whatever the width.
        yield Tensor(f"{name}.weight", (outputs, inputs), 0.0, gain / math.sqrt(inputs))
        if bias:
            yield Tensor(f"{name}.bias", (outputs,), 0.0, 0.1)

    yield Tensor("transformer.wte.weight", (vocab, embd), 0.0, 1.0)
    for i in range(config["n_layer"]):
        block = f"transformer.h.{i}"
        yield from layer_norm(f"{block}.ln_1")
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from linear(f"{block}.attn.{projection}", embd, embd, bias=False)
        yield from linear(f"{block}.mlp.fc_in", inner, embd)
        yield from linear(f"{block}.mlp.fc_out", embd, inner)
    yield from layer_norm("transformer.ln_f")
    # Logits that lie apart, so that the most likely token is not a matter of rounding.
    yield from linear("lm_head", vocab, embd, gain=4.0)


def draw(tensor, dtype, seed):
    """The tensor's weights as bytes on disk, a chunk at a time."""
    random = np.random.default_rng([seed, zlib.crc32(tensor.name.encode())])
    for left in range(tensor.count(), 0, -CHUNK):
        noise = random.standard_normal(min(left, CHUNK), dtype=np.float32)
        weights = np.float32(tensor.mean) + np.float32(tensor.deviation) * noise
        if dtype == "bf16":  # the upper half of an f32, rounded to nearest, ties to even
            bits = weights.view(np.uint32)
            weights = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
        yield weights.astype({"f16": "<f2", "bf16": "<u2", "f32": "<f4"}[dtype]).tobytes()


def write_safetensors(path, shard, dtype, seed):
    header = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in shard:
        begin, end = end, end + tensor.count() * DTYPES[dtype].size
        header[tensor.name] = {"dtype": dtype.upper(), "shape": tensor.shape, "data_offsets": [begin, end]}
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)  # the data begins at a multiple of eight

    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for tensor in shard:
            file.writelines(draw(tensor, dtype, seed))


def write_pytorch(path, shard, dtype, seed):
    import torch

    kind = getattr(torch, DTYPES[dtype].name)
    state = {}
    for tensor in shard:
        data = bytearray(tensor.count() * DTYPES[dtype].size)
        end = 0
        for chunk in draw(tensor, dtype, seed):
            data[end : end + len(chunk)] = chunk
            end += len(chunk)
        state[tensor.name] = torch.frombuffer(data, dtype=kind).reshape(tensor.shape)
    torch.save(state, path)


def split(tensors, limit):
    """Cuts the list into shards of at most `limit` weights, or of one tensor where that is larger."""
    shards, room = [], 0
    for tensor in tensors:
        if not shards or tensor.count() > room:
            shards.append([])
            room = limit
        shards[-1].append(tensor)
        room -= tensor.count()
    return shards


FORMATS = {"safetensors": (write_safetensors, "model", "safetensors"), "bin": (write_pytorch, "pytorch_model", "bin")}


def write_checkpoint(out, config, dtype, shard_bytes, seed, kind):
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(config | {"torch_dtype": DTYPES[dtype].name}, indent=2) + "\n")

    write, stem, suffix = FORMATS[kind]
    size = DTYPES[dtype].size
    shards = split(tensors(config), shard_bytes / size)
    count = sum(tensor.count() for shard in shards for tensor in shard)
    if len(shards) == 1:
        write(out / f"{stem}.{suffix}", shards[0], dtype, seed)
    else:
        weight_map = {}
        for i, shard in enumerate(shards, start=1):
            file = f"{stem}-{i:05}-of-{len(shards):05}.{suffix}"
            write(out / file, shard, dtype, seed)
            weight_map |= {tensor.name: file for tensor in shard}
        index = {"metadata": {"total_size": count * size}, "weight_map": weight_map}
        (out / f"{stem}.{suffix}.index.json").write_text(json.dumps(index, indent=2) + "\n")
    print(f"{out}: {count:,} parameters, {count * size / 1e6:,.1f} MB in {len(shards)} file(s)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write the checkpoint into")
    parser.add_argument("--preset", choices=PRESETS, default="1b", help="the shape to start from (default: 1b)")
    for key in (*PRESETS["1b"], "n_inner"):
        parser.add_argument(f"--{key.replace('_', '-')}", type=int, help=f"the config's {key}, if not the preset's")
    parser.add_argument("--dtype", choices=DTYPES, default="f16", help="how weights are stored (default: f16)")
    parser.add_argument("--shard-size", type=float, default=math.inf, help="megabytes a file (default: one file)")
    parser.add_argument("--format", choices=FORMATS, default="safetensors", help="the kind of file (default: safetensors)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other weights (default: 0)")
    arguments = parser.parse_args()

    shape = PRESETS[arguments.preset] | {"n_inner": None}
    shape |= {key: value for key, value in vars(arguments).items() if key in shape and value is not None}
    end_of_text = min(50256, shape["vocab_size"] - 1)
    config = shape | {
        "architectures": ["GPTJForCausalLM"],
        "model_type": "gptj",
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-05,
        "tie_word_embeddings": False,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
    }
    write_checkpoint(arguments.out, config, arguments.dtype, arguments.shard_size * 1e6, arguments.seed, arguments.format)


if __name__ == "__main__":
    main()
