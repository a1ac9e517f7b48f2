"""Writes the LoRA adapters of this folder with PEFT, and what transformers computes with them merged.

    pip install torch transformers peft safetensors
    python tests/formats/make_lora.py

The model is tests/golden/narrow_mlp. The reference runs in f32 on the model's f16 weights plus the adapters' products, not
rounded: what an engine that merges into f16 may differ by is that one rounding. `lora/logits.safetensors` holds the tokens
and the logits of all of them for each combination: `attention`, `all`, `half` (all, times 0.5), and `both`.
"""

import json
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import GPTJForCausalLM, logging

HERE = Path(__file__).resolve().parent
MODEL = HERE.parent / "golden" / "narrow_mlp"
OUT = HERE / "lora"

ADAPTERS = {
    # Two projections, in f32.
    "attention": LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    # Every matrix of a block, with ranks and factors of their own, in f16.
    "all": LoraConfig(
        r=3,
        lora_alpha=5,
        use_rslora=True,
        target_modules=["q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out"],
        rank_pattern={"fc_in": 5, "h.1.attn.out_proj": 2},
        alpha_pattern={"fc_out": 2},
        task_type="CAUSAL_LM",
    ),
}
TOKENS = torch.tensor([7, 150, 3, 42, 99, 0, 181, 66])


def base():
    return GPTJForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager")


def make_adapter(name, config, seed):
    random = torch.Generator().manual_seed(seed)
    model = get_peft_model(base(), config)
    for key, parameter in model.named_parameters():
        if "lora_" in key:
            # Fresh adapters have zeros in B, and would change nothing.
            parameter.data = 0.15 * torch.randn(parameter.shape, generator=random)
            if name == "all":
                parameter.data = parameter.data.half().float()
    model.save_pretrained(OUT / name)
    (OUT / name / "README.md").unlink(missing_ok=True)
    file = OUT / name / "adapter_model.safetensors"
    tensors = load_file(file)
    if name == "all":
        # As state dicts that were not saved by PEFT have them.
        tensors = {key.replace(".weight", ".default.weight"): value.half() for key, value in tensors.items()}
        tensors = {key.removeprefix("base_model.model."): value for key, value in tensors.items()}
    save_file(tensors, file)
    settings = json.loads((OUT / name / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "narrow_mlp"
    settings["target_modules"] = sorted(settings["target_modules"])
    (OUT / name / "adapter_config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def logits(*adapters):
    """Of the model with adapters merged one after another by PEFT, each given with a scale."""
    model = base()
    for name, scale in adapters:
        config = ADAPTERS[name]
        adapted = get_peft_model(model, config)
        state = load_file(OUT / name / "adapter_model.safetensors")
        state = {key.removeprefix("base_model.model.").replace(".default.", "."): value for key, value in state.items()}
        for key, parameter in adapted.named_parameters():
            if "lora_" in key:
                value = state[key.removeprefix("base_model.model.").replace(".default.", ".")].float()
                parameter.data = value * scale if "lora_B" in key else value
        model = adapted.merge_and_unload()
    with torch.no_grad():
        return model(TOKENS[None]).logits[0].contiguous()


def main():
    torch.set_num_threads(1)  # sums in one order, so that the same machine writes the same bytes
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    OUT.mkdir(exist_ok=True)
    for seed, (name, config) in enumerate(ADAPTERS.items()):
        make_adapter(name, config, seed)
    # One of them as older versions of PEFT save it.
    pickled = OUT / "attention_bin"
    pickled.mkdir(exist_ok=True)
    (pickled / "adapter_config.json").write_text((OUT / "attention" / "adapter_config.json").read_text())
    torch.save(load_file(OUT / "attention" / "adapter_model.safetensors"), pickled / "adapter_model.bin")
    # PEFT itself reads what it wrote.
    adapted = PeftModel.from_pretrained(base(), OUT / "attention")
    with torch.no_grad():
        assert torch.allclose(adapted(TOKENS[None]).logits[0], logits(("attention", 1.0)), atol=1e-4)
    cases = {
        "base": [],
        "attention": [("attention", 1.0)],
        "all": [("all", 1.0)],
        "half": [("all", 0.5)],
        "both": [("attention", 1.0), ("all", 1.0)],
    }
    results = {name: logits(*adapters) for name, adapters in cases.items()}
    for name, result in results.items():
        print(name, "largest", result.abs().max().item(), "changed by", (result - results["base"]).abs().max().item())
    save_file({"tokens": TOKENS.int(), **results}, OUT / "logits.safetensors")


if __name__ == "__main__":
    main()
