//! `gptj devices`: the GPUs of this machine.

use std::io::Write;

use clap::Args;
use gptj::internals::gpu::{AdapterInfo, adapters};

use super::{gigabytes, note, print_json};

/// List the GPUs of this machine and what they can do.
#[derive(Args)]
pub(crate) struct Devices {
    /// Print a JSON list.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(arguments: &Devices) -> anyhow::Result<()> {
    let adapters = adapters().await;
    if arguments.json {
        return print_json(&serde_json::to_value(&adapters)?);
    }
    if adapters.is_empty() {
        note("no GPU found: install a driver for Vulkan, Metal or DX12");
    }
    let mut out = std::io::stdout();
    for adapter in &adapters {
        writeln!(out, "{}", describe(adapter))?;
    }
    Ok(())
}

fn describe(adapter: &AdapterInfo) -> String {
    let AdapterInfo { index, name, backend, kind, driver, .. } = adapter;
    let memory = adapter.memory.map_or_else(|| "unknown".to_owned(), gigabytes);
    let subgroups = match adapter.subgroups {
        None => "no".to_owned(),
        Some((smallest, largest)) if smallest == largest => format!("of {smallest}"),
        Some((smallest, largest)) => format!("of {smallest} to {largest}"),
    };
    let matrix = match adapter.cooperative_matrix.as_slice() {
        [] => "no".to_owned(),
        shapes => shapes.join(", "),
    };
    format!(
        "{index}: {name}\n   {backend}, {kind}, {driver}\n   memory {memory}; buffers up to {}, bindings up to {}\n   f16 \
         {}; subgroups {subgroups}; cooperative matrix {matrix}",
        gigabytes(adapter.max_buffer),
        gigabytes(adapter.max_binding),
        if adapter.f16 { "yes" } else { "no" },
    )
}
