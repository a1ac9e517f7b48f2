//! What the program says of GPUs and of models: `gptj devices` and `gptj info`.

use gptj::AdapterInfo;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::golden::{self, Golden};
use crate::common::gpu::gpu;
use crate::common::model_dir::NARROW;
use crate::common::program::{gptj, gptj_without_gpu, run, run_json};

/// An adapter as `devices --json` and `info --json` describe it: these keys and no others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "that they can be read is what is tested")]
struct Adapter {
    index: usize,
    name: String,
    backend: String,
    kind: String,
    driver: String,
    memory: Option<u64>,
    max_buffer: u64,
    max_binding: u64,
    f16: bool,
    subgroups: Option<(u32, u32)>,
    cooperative_matrix: Vec<String>,
}

#[test]
fn devices_lists_the_gpus() {
    let Some(gpu) = gpu() else { return };
    let adapters: Vec<Adapter> = run_json(&mut gptj(&["devices", "--json"]));
    assert!(adapters.iter().enumerate().all(|(place, adapter)| adapter.index == place));
    let AdapterInfo { index, name, backend, kind, driver, max_buffer, .. } = gpu.info();
    let adapter = &adapters[*index];
    assert_eq!((&adapter.name, &adapter.backend, &adapter.driver), (name, backend, driver));
    assert_eq!((adapter.kind.as_str(), adapter.max_buffer), (*kind, *max_buffer));

    let (stdout, stderr) = run(&mut gptj(&["devices"]));
    assert!(stdout.contains(&format!("{index}: {name}\n   {backend}, {kind}, {driver}\n")), "{stdout}");
    assert_eq!(stderr, "");
}

#[test]
fn no_devices_are_an_empty_list_and_a_note() {
    assert_eq!(run_json::<Value>(&mut gptj_without_gpu(&["devices", "--json"])), json!([]));
    let (stdout, stderr) = run(&mut gptj_without_gpu(&["devices"]));
    assert_eq!(stdout, "");
    assert!(stderr.starts_with("no GPU found: install a driver"), "{stderr}");
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    config: Value,
    lora: Vec<Value>,
    parameters: u64,
    context: usize,
    memory: Memory,
    adapter: Option<Adapter>,
    fits: Option<bool>,
    problem: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    weights: u64,
    cache: u64,
    activations: u64,
    driver: u64,
    total: u64,
}

#[test]
fn info_describes_a_model_without_a_gpu() {
    let info: Info = run_json(&mut gptj_without_gpu(&["info", "--json"]));
    let config: Value = serde_json::from_slice(&golden::read("models/shakespeare/config.json")).expect("JSON");
    for key in ["vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "rotary_dim"] {
        assert_eq!(info.config[key], config[key], "{key}");
    }
    let shapes = Golden::at("models/shakespeare/model.safetensors".into()).shapes();
    let elements: usize = shapes.values().map(|shape| shape.iter().product::<usize>()).sum();
    assert_eq!(info.parameters, elements as u64);
    let Memory { weights, cache, activations, driver, total } = info.memory;
    assert!(weights >= 2 * info.parameters, "two bytes a weight, and four bytes a bias");
    assert_eq!(cache, 2 * 2 * 4 * 256 * 256, "keys and values, two bytes each, of 4 blocks, 256 positions, 256 wide");
    assert_eq!(weights + cache + activations + driver, total);
    assert!(info.lora.is_empty() && info.adapter.is_none() && info.fits.is_none() && info.problem.is_none());
    assert_eq!(info.context, 256);

    let info: Info = run_json(&mut gptj_without_gpu(&["info", "--json", "--context", "64"]));
    assert_eq!((info.context, info.memory.cache), (64, cache / 4));
    let (stdout, stderr) = run(&mut gptj_without_gpu(&["info", "--model", NARROW]));
    for words in [NARROW, "2 blocks; width 48, 3 heads of 16; MLP 80", "context 24", "weights", "no GPU found"] {
        assert!(stdout.contains(words), "{words} is missing in {stdout}");
    }
    assert_eq!(stderr, "");
}

#[test]
fn info_says_whether_a_model_fits() {
    let Some(gpu) = gpu() else { return };
    let info: Info = run_json(&mut gptj(&["info", "--json"]));
    assert_eq!(info.adapter.expect("there is a GPU").name, gpu.info().name);
    // A few megabytes fit wherever it is known how much memory there is.
    assert_eq!(info.fits, gpu.info().memory.map(|_| true));
    assert!(run(&mut gptj(&["info"])).0.contains(&gpu.info().to_string()));
}
