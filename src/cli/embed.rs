//! `gptj embed`: a text as a vector.

use std::io::Write;

use clap::{Args, ValueEnum};
use gptj::{Class, Model, Pooling, Selector};
use serde_json::{Value, json};

use super::load::Source;
use super::out;
use super::texts::{Analysis, Inputs};

/// Turn a text into a vector: its last hidden states, pooled.
#[derive(Args)]
pub(crate) struct Embed {
    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    inputs: Inputs,

    /// How to pool the tokens' states.
    #[arg(long, help_heading = "Output", value_name = "HOW", default_value = "weighted")]
    pooling: PoolingArgument,

    /// Print one JSON object: embedding.
    #[arg(long, help_heading = "Output")]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum PoolingArgument {
    /// The last token's state.
    Last,
    /// Their mean.
    Mean,
    /// Their mean, weighted by position, as in SGPT.
    Weighted,
}

pub(crate) async fn run(arguments: &Embed, gpu: &Selector) -> anyhow::Result<()> {
    let Embed { source, inputs, pooling, json } = arguments;
    let opened = source.open(Class::Model)?;
    inputs.each(source, &opened, gpu, *json, pooling).await
}

impl Analysis for PoolingArgument {
    type Found = Vec<f32>;

    async fn run(&self, model: &mut Model, tokens: &[u32]) -> gptj::Result<Vec<f32>> {
        let pooling = match self {
            Self::Last => Pooling::Last,
            Self::Mean => Pooling::Mean,
            Self::Weighted => Pooling::WeightedMean,
        };
        model.embed(tokens, pooling).await
    }

    fn json(&self, _: &[u32], embedding: &Vec<f32>) -> Value {
        json!({ "embedding": embedding })
    }

    fn print(&self, _: &[u32], embedding: &Vec<f32>) -> anyhow::Result<()> {
        let numbers: Vec<_> = embedding.iter().map(f32::to_string).collect();
        Ok(writeln!(out(), "{}", numbers.join(" "))?)
    }
}
