//! `gptj devices`: the GPUs of this machine.

use std::io::Write;

use clap::Args;
use gptj::{AdapterInfo, adapters};

use super::{human_bytes, json, out, print_json, say};

/// List the GPUs of this machine and what they can do.
#[derive(Args)]
pub(crate) struct Devices {
    /// Print a JSON list.
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(crate) async fn run(arguments: &Devices) -> anyhow::Result<()> {
    let adapters = adapters().await;
    if arguments.json {
        return print_json(&json::exact(serde_json::to_value(adapters)?));
    }
    if adapters.is_empty() {
        say("no GPU found: install a driver for Vulkan, Metal or DX12");
    }
    for adapter in &adapters {
        print(adapter)?;
    }
    Ok(())
}

fn print(adapter: &AdapterInfo) -> std::io::Result<()> {
    let AdapterInfo { index, name, backend, kind, driver, .. } = adapter;
    let memory = adapter.memory.map_or_else(|| "unknown".to_owned(), human_bytes);
    let (buffers, bindings) = (human_bytes(adapter.max_buffer), human_bytes(adapter.max_binding));
    let f16 = if adapter.f16 { "yes" } else { "no" };
    let subgroups = match adapter.subgroups {
        None => "no".to_owned(),
        Some((smallest, largest)) if smallest == largest => format!("of {smallest}"),
        Some((smallest, largest)) => format!("of {smallest} to {largest}"),
    };
    let matrix = match adapter.cooperative_matrix.as_slice() {
        [] => "no".to_owned(),
        shapes => shapes.join(", "),
    };
    let mut out = out();
    writeln!(out, "{index}: {name}")?;
    writeln!(out, "   {backend}, {kind}, {driver}")?;
    writeln!(out, "   memory {memory}; buffers up to {buffers}, bindings up to {bindings}")?;
    writeln!(out, "   f16 {f16}; subgroups {subgroups}; cooperative matrix {matrix}")
}
