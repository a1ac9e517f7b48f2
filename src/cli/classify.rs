//! `gptj classify`: which label a text has.

use std::io::Write;

use clap::Args;
use gptj::{Class, Classification, Selector};
use serde_json::{Value, json};

use super::input::{Inputs, Text};
use super::keep_pipelines;
use super::load::Source;

/// Classify a text with a GPTJForSequenceClassification.
#[derive(Args)]
pub(crate) struct Classify {
    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    inputs: Inputs,

    /// Print one JSON object: label, scores (label to probability, or to the number of a regression), logits.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(arguments: &Classify, gpu: &Selector) -> anyhow::Result<()> {
    let opened = arguments.source.open(Class::SequenceClassification)?;
    let texts = arguments.inputs.read(&opened, &arguments.source.model)?;
    let mut model = opened.load_for(Text::longest(&texts), gpu).await?;
    for text in &texts {
        let found = text.found(model.classify(&text.tokens).await)?;
        print(arguments, text, &found, &opened.config().labels)?;
    }
    keep_pipelines(model.gpu());
    Ok(())
}

fn print(arguments: &Classify, text: &Text, found: &Classification, labels: &[String]) -> anyhow::Result<()> {
    let scores = || labels.iter().zip(&found.scores);
    if arguments.json || text.index.is_some() {
        return text.print_json(json!({
            "label": labels[found.best()],
            "scores": scores().map(|(label, &score)| (label.clone(), json!(score))).collect::<Value>(),
            "logits": found.logits,
        }));
    }
    let mut best_first: Vec<_> = scores().collect();
    best_first.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let mut out = std::io::stdout();
    for (label, score) in best_first {
        writeln!(out, "{score:>10.4}  {label}")?;
    }
    Ok(())
}
