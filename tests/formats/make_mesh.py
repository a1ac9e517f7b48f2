"""Writes tests/formats/mesh with Hugging Face transformers and numpy. README.md explains it.

    pip install torch transformers safetensors tokenizers
    python tests/formats/make_mesh.py
"""

import io
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from transformers import GPTJConfig, GPTJForCausalLM, logging

HERE = Path(__file__).resolve().parent / "mesh"
sys.path.insert(0, str(HERE.parent))
from make_codegen import first_clear_seed, randomise, write_stages  # noqa: E402

SHARDS = 2
PIECES = 3  # files of a shard; mesh-transformer-jax makes sixteen


def bfloat16(tensor):
    """As numpy holds jax's bfloat16."""
    assert torch.equal(tensor.bfloat16().float(), tensor.float())
    return tensor.bfloat16().contiguous().view(torch.int16).numpy().view("V2")


def terms(total, random):
    """Numbers of bfloat16 for each shard that add up to `total`, a multiple of 1/64."""
    others = [torch.randint(-16, 17, total.shape, generator=random) / 64 for _ in range(SHARDS - 1)]
    return [total - sum(others), *others]


def shards(model, random):
    """What each shard has, by the names of mesh-transformer-jax."""
    tensors = {name: tensor.float() for name, tensor in model.state_dict().items()}
    parts = [{} for _ in range(SHARDS)]

    def put(module, parameter, pieces):
        for part, piece in zip(parts, pieces):
            part[f"causal_transformer_shard/~/{module}", parameter] = piece

    def whole(module, parameter, name):
        tensor = tensors[name]
        # Only the first shard's layer norms count.
        put(module, parameter, [tensor, *[torch.randn_like(tensor).half().bfloat16() for _ in range(SHARDS - 1)]])

    def outputs(module, name):
        put(module, "w", tensors[name].T.chunk(SHARDS, dim=1))

    def inputs(module, name):
        put(module, "w", tensors[name].T.chunk(SHARDS, dim=0))

    wte = tensors["transformer.wte.weight"]
    biases = [torch.randint(-16, 17, wte.shape[1:], generator=random) / 64 for _ in range(SHARDS)]
    put("embedding_shard/~/linear", "w", (wte - sum(biases)).chunk(SHARDS))
    put("embedding_shard/~/linear", "b", biases)
    for i in range(model.config.n_layer):
        block, hf = f"layer_{i}/~", f"transformer.h.{i}"
        outputs(f"{block}/linear", f"{hf}.attn.q_proj.weight")
        outputs(f"{block}/linear_1", f"{hf}.attn.v_proj.weight")
        outputs(f"{block}/linear_2", f"{hf}.attn.k_proj.weight")
        inputs(f"{block}/linear_3", f"{hf}.attn.out_proj.weight")
        outputs(f"{block}/linear_4", f"{hf}.mlp.fc_in.weight")
        put(f"{block}/linear_4", "b", tensors[f"{hf}.mlp.fc_in.bias"].chunk(SHARDS))
        inputs(f"{block}/linear_5", f"{hf}.mlp.fc_out.weight")
        put(f"{block}/linear_5", "b", terms(tensors[f"{hf}.mlp.fc_out.bias"], random))
        whole(f"{block}/replicated_layer_norm", "scale", f"{hf}.ln_1.weight")
        whole(f"{block}/replicated_layer_norm", "offset", f"{hf}.ln_1.bias")
    outputs("projection_shard/~/linear", "lm_head.weight")
    put("projection_shard/~/linear", "b", tensors["lm_head.bias"].chunk(SHARDS))
    whole("projection_shard/~/replicated_layer_norm", "scale", "transformer.ln_f.weight")
    whole("projection_shard/~/replicated_layer_norm", "offset", "transformer.ln_f.bias")
    return parts


def write(folder, parts, save):
    for i, part in enumerate(parts):
        # jax.tree_flatten visits keys in order; `params` come before `step`.
        arrays = [bfloat16(part[key]) for key in sorted(part)] + [np.array(383500, dtype=np.int32)]
        shard = folder / f"shard_{i}"
        shard.mkdir(parents=True)
        bounds = np.linspace(0, len(arrays), PIECES + 1).round().astype(int)
        for piece, (start, end) in enumerate(zip(bounds, bounds[1:])):
            save(shard / f"{piece}.npz", *arrays[start:end])
            repack(shard / f"{piece}.npz")


def repack(path):
    """Takes the time out of an archive, so that every run writes the same bytes."""
    with zipfile.ZipFile(path) as archive:
        entries = [(info.filename, info.compress_type, archive.read(info)) for info in archive.infolist()]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, compress_type, data in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = compress_type
            with archive.open(info, "w", force_zip64=True) as entry:  # as numpy does
                entry.write(data)
    path.write_bytes(buffer.getvalue())


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    # Eleven blocks, because layer_10 comes before layer_2.
    shape = dict(vocab_size=64, n_positions=48, n_embd=16, n_layer=11, n_head=4, rotary_dim=2)
    config = GPTJConfig(**shape, eos_token_id=63)

    def make(seed):
        model = GPTJForCausalLM(config)
        randomise(model, torch.bfloat16, seed)
        for name, parameter in model.named_parameters():
            if name.endswith(("wte.weight", "fc_out.bias")):  # which are sums
                parameter.data = (parameter.data.float() * 64).round().clamp(-96, 96) / 64
        return model.float().eval()

    _, model, stages = first_clear_seed(make, prompt=13, greedy=16)
    shutil.rmtree(HERE, ignore_errors=True)
    parts = shards(model, torch.Generator().manual_seed(0))
    write(HERE / "step_383500", parts, np.savez)
    write(HERE / "deflated", parts, np.savez_compressed)
    model.half().save_pretrained(HERE / "hf")
    (HERE / "hf" / "model.safetensors").chmod(0o644)
    for folder in ["step_383500", "deflated"]:
        shutil.copy(HERE / "hf" / "config.json", HERE / folder)
    write_stages(HERE, stages)


if __name__ == "__main__":
    main()
