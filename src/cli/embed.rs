//! `gptj embed`: a text as a vector.

use std::io::Write;

use clap::{Args, ValueEnum};
use gptj::{Class, Pooling, Selector};
use serde_json::json;

use super::input::{Inputs, Text};
use super::keep_pipelines;
use super::load::Source;

/// Turn a text into a vector: its last hidden states, pooled.
#[derive(Args)]
pub(crate) struct Embed {
    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    inputs: Inputs,

    /// How the tokens' states become one.
    #[arg(long, value_name = "HOW", default_value = "weighted")]
    pooling: PoolingArgument,

    /// Print one JSON object: embedding.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum PoolingArgument {
    /// The last token's state.
    Last,
    /// Their mean.
    Mean,
    /// Their mean, where later tokens, which have seen more, weigh more, as SGPT has it.
    Weighted,
}

pub(crate) async fn run(arguments: &Embed, gpu: &Selector) -> anyhow::Result<()> {
    let opened = arguments.source.open(Class::Model)?;
    let texts = arguments.inputs.read(&opened, &arguments.source.model)?;
    let pooling = match arguments.pooling {
        PoolingArgument::Last => Pooling::Last,
        PoolingArgument::Mean => Pooling::Mean,
        PoolingArgument::Weighted => Pooling::WeightedMean,
    };
    let mut model = opened.load_for(Text::longest(&texts), gpu).await?;
    for text in &texts {
        let embedding = text.found(model.embed(&text.tokens, pooling).await)?;
        if arguments.json || text.index.is_some() {
            text.print_json(json!({ "embedding": embedding }))?;
        } else {
            let numbers: Vec<_> = embedding.iter().map(f32::to_string).collect();
            writeln!(std::io::stdout(), "{}", numbers.join(" "))?;
        }
    }
    keep_pipelines(model.gpu());
    Ok(())
}
