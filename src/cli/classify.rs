//! `gptj classify`: the label of a text.

use std::io::Write;

use clap::Args;
use gptj::{Class, Classification, Model, Selector};
use serde_json::{Value, json};

use super::load::Source;
use super::out;
use super::texts::{Analysis, Inputs};

/// Classify a text with a GPTJForSequenceClassification.
#[derive(Args)]
pub(crate) struct Classify {
    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    inputs: Inputs,

    /// Print one JSON object: label, scores (label to probability, or to the number of a regression), logits.
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(crate) async fn run(arguments: &Classify, gpu: &Selector) -> anyhow::Result<()> {
    let Classify { source, inputs, json } = arguments;
    let opened = source.open(Class::SequenceClassification)?;
    inputs.each(source, &opened, gpu, *json, &Labels(&opened.config().labels)).await
}

struct Labels<'a>(&'a [String]);

impl Labels<'_> {
    fn scores<'a>(&'a self, found: &'a Classification) -> impl Iterator<Item = (&'a String, &'a f64)> {
        self.0.iter().zip(&found.scores)
    }
}

impl Analysis for Labels<'_> {
    type Found = Classification;

    async fn run(&self, model: &mut Model, tokens: &[u32]) -> gptj::Result<Classification> {
        model.classify(tokens).await
    }

    fn json(&self, _: &[u32], found: &Classification) -> Value {
        json!({
            "label": self.0[found.best()],
            "scores": self.scores(found).map(|(label, &score)| (label.clone(), json!(score))).collect::<Value>(),
            "logits": found.logits,
        })
    }

    fn print(&self, _: &[u32], found: &Classification) -> anyhow::Result<()> {
        let mut best_first: Vec<_> = self.scores(found).collect();
        best_first.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let mut out = out();
        for (label, score) in best_first {
            writeln!(out, "{score:>10.4}  {label}")?;
        }
        Ok(())
    }
}
