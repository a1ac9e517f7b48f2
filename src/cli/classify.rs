//! `gptj classify`: which label a text has.

use std::io::Write;

use clap::Args;
use gptj::{Class, Selector};
use serde_json::{Value, json};

use super::input::Input;
use super::load::Source;
use super::{keep_pipelines, print_json};

/// Classify a text with a GPTJForSequenceClassification.
#[derive(Args)]
pub(crate) struct Classify {
    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    input: Input,

    /// Print one JSON object: label, scores (label to probability, or to the number of a regression), logits.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(arguments: &Classify, gpu: &Selector) -> anyhow::Result<()> {
    let opened = arguments.source.open(Class::SequenceClassification)?;
    let tokens = arguments.input.tokens(opened.tokenizer.as_ref(), &arguments.source.model)?;
    opened.config().check_prompt(&tokens)?;
    let mut model = opened.load_for(tokens.len(), gpu).await?;
    let found = model.classify(&tokens).await?;
    keep_pipelines(model.gpu());
    let labels = &opened.config().labels;
    let scores = || labels.iter().zip(&found.scores);
    if arguments.json {
        return print_json(&json!({
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
