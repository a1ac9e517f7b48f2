"""GPT-J-6B in PyTorch, as Hugging Face transformers has it: fp16, random weights, batch 1, on the first CUDA device.

Prints one JSON object, whose measurements have the names that `gptj bench model` has for the same things. Where it cannot
run, the object says why, and the exit code is 1. Only the last position's logits are computed, as when generating text.

`--cuda-graph` measures single tokens alone, replayed as a CUDA graph: what the GPU takes where launching costs nothing.
`--layers N` makes a smaller model, `--device cpu` tries the script out.
"""

import argparse
import copy
import json
import statistics
import sys
import time

PROMPTS = [128, 512, 2048]
DEPTHS = [0, 512, 1024, 1984]
DECODED = 32
REPEATS = 5


def measure(torch, transformers, device, layers, cuda_graph):
    config = transformers.GPTJConfig(n_layer=layers)
    cuda = device == "cuda"

    measurements = []

    def add(name, unit, value):
        measurements.append({"name": name, "unit": unit, "value": value})

    def synchronize():
        if cuda:
            torch.cuda.synchronize()

    # The weights are created where they stay and as they stay: in f16, never in host memory.
    torch.set_default_dtype(torch.float16 if cuda else torch.float32)
    with torch.device(device):
        model = transformers.GPTJForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)

    def step(tokens, cache):
        output = model.transformer(tokens, past_key_values=cache, use_cache=True)
        return model.lm_head(output.last_hidden_state[:, -1:]).argmax(-1), output.past_key_values

    def prompt(count):
        return torch.randint(0, config.vocab_size, (1, count), device=device)

    def prefill(count):
        tokens = prompt(count)
        times = []
        for _ in range(REPEATS + 1):
            synchronize()
            start = time.perf_counter()
            step(tokens, None)
            synchronize()
            times.append(time.perf_counter() - start)
        add(f"prefill of {count}", "tok/s", count / statistics.median(times[1:]))

    def fork(cache):
        """A cache that grows without changing this one: growing replaces tensors, it does not write to them."""
        new = copy.copy(cache)
        for name, value in vars(cache).items():
            if isinstance(value, list):
                setattr(new, name, [item if torch.is_tensor(item) else copy.copy(item) for item in value])
        return new

    def record(token, cache):
        """One step at one depth as a graph; what replays it."""

        def same_step():
            step(token, fork(cache) if cache is not None else None)

        if not cuda:
            return same_step
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                same_step()
        synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            same_step()
        return graph.replay

    def decode(depth):
        token, cache = prompt(1), None
        if depth > 0:
            _, cache = step(prompt(depth), None)
        replay = record(token, cache) if cuda_graph else None
        times = []
        for _ in range(DECODED):
            synchronize()
            start = time.perf_counter()
            if replay:
                replay()
            else:
                token, cache = step(token, cache)
            synchronize()
            times.append(time.perf_counter() - start)
        # The first steps warm up.
        add(f"decode at depth {depth}", "tok/s", 1 / statistics.median(times[4:]))

    result = {
        "device": torch.cuda.get_device_name() if cuda else device,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cuda": torch.version.cuda,
        "attention": getattr(config, "_attn_implementation", None),
        "layers": layers,
        "cuda_graph": cuda_graph,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "errors": [],
        "measurements": measurements,
    }
    prompts = [] if cuda_graph else PROMPTS
    for name, measure_one, sizes in [("prefill", prefill, prompts), ("decode", decode, DEPTHS)]:
        for size in sizes:
            try:
                with torch.inference_mode():
                    measure_one(size)
            except Exception as error:  # One size too large for the card must not cost the others.
                result["errors"].append(f"{name} {size}: {error}")
            print(f"{name} {size}: done", file=sys.stderr)
    if cuda:
        add("memory, allocated", "bytes", torch.cuda.max_memory_allocated())
        add("memory, allocator's count", "bytes", torch.cuda.max_memory_reserved())
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--cuda-graph", action="store_true")
    arguments = parser.parse_args()
    try:
        import torch
        import transformers

        if arguments.device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("PyTorch finds no CUDA device")
        result = measure(torch, transformers, arguments.device, arguments.layers, arguments.cuda_graph)
    except Exception as error:  # Whatever it is, the report is to say it.
        print(json.dumps({"not_run": f"{type(error).__name__}: {error}"}))
        sys.exit(1)
    print(json.dumps(result, indent=1))


main()
