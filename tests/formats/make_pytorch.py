"""Writes pytorch/: the golden `odd_widths` in the forms that PyTorch's checkpoints have on the hub.

    pip install torch safetensors
    python tests/formats/make_pytorch.py

Its weights are exact in f32, f16 and bf16 alike, so every file here holds the same numbers. The files here come from
torch 2.15.0. `torch.save` writes them all, as transformers had it do before it wrote safetensors. A legacy file calls its
storages by their addresses in memory, so that its bytes are others on every run.
"""

import json
import shutil
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden" / "odd_widths"
FOLDER = HERE / "pytorch"


def with_old_buffers(tensors):
    """With what older versions of transformers saved beside the weights: the causal mask, and its value; and with the
    attribute that every module's `state_dict()` has."""
    tensors = OrderedDict(tensors)
    for i in range(3):
        tensors[f"transformer.h.{i}.attn.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool).tril()
        tensors[f"transformer.h.{i}.attn.masked_bias"] = torch.tensor(-1e9)
    tensors._metadata = OrderedDict({"": {"version": 1}, "lm_head": {"version": 1}})
    return tensors


def in_pieces(tensors):
    """The same numbers, but each matrix transposed in memory, and all vectors parts of one storage, the last one first."""
    vectors = {name: tensor for name, tensor in tensors.items() if tensor.dim() == 1}
    shared = torch.cat(list(reversed(vectors.values())))
    end = len(shared)
    pieces = OrderedDict()
    for name, tensor in tensors.items():
        if tensor.dim() == 1:
            pieces[name] = shared[end - len(tensor) : end]
            end -= len(tensor)
        else:
            pieces[name] = tensor.T.contiguous().T
    return pieces


def save_shards(tensors, folder):
    """Three files and their index. A file holds its own tensors only, so they are copied: PyTorch saves whole storages."""
    folder.mkdir()
    names = list(tensors)
    index = {}
    for i in range(3):
        file = f"pytorch_model-{i + 1:05}-of-00003.bin"
        shard = {name: tensors[name].clone() for name in names[i::3]}
        torch.save(shard, folder / file)
        index |= dict.fromkeys(shard, file)
    size = sum(tensor.nbytes for tensor in tensors.values())
    text = json.dumps({"metadata": {"total_size": size}, "weight_map": index}, indent=2, sort_keys=True)
    (folder / "pytorch_model.bin.index.json").write_text(text + "\n")


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    bf16 = OrderedDict(load_file(GOLDEN / "model.safetensors"))
    f32 = OrderedDict((name, tensor.float()) for name, tensor in bf16.items())
    f16 = OrderedDict((name, tensor.half()) for name, tensor in bf16.items())
    assert all(torch.equal(f16[name].float(), f32[name]) for name in f32)

    torch.save(with_old_buffers(f32), FOLDER / "f32.bin")
    torch.save(f16, FOLDER / "f16_protocol_5.bin", pickle_protocol=5)
    torch.save(bf16, FOLDER / "bf16_protocol_4.bin", pickle_protocol=4)
    legacy = {"_use_new_zipfile_serialization": False}
    torch.save(with_old_buffers(f16), FOLDER / "legacy.bin", **legacy)
    torch.save(in_pieces(f16), FOLDER / "legacy_pieces_protocol_4.bin", **legacy, pickle_protocol=4)
    # What a training program on several GPUs may write.
    parameters = {f"module.{name}": torch.nn.Parameter(tensor) for name, tensor in in_pieces(bf16).items()}
    torch.save({"epoch": 3, "loss": 0.5, "state_dict": OrderedDict(parameters)}, FOLDER / "nested_pieces.bin")
    save_shards(bf16, FOLDER / "sharded")


if __name__ == "__main__":
    main()
