//! `gptj score`: how likely each token of a text is.

use std::io::Write;

use clap::Args;
use gptj::{Class, Score, Selector, Tokenizer};
use serde_json::{Value, json};

use super::input::{Inputs, Text};
use super::keep_pipelines;
use super::load::Source;

/// Show how likely each token of a text is, given those before it.
#[derive(Args)]
pub(crate) struct ScoreArguments {
    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    inputs: Inputs,

    /// Show the N most likely tokens at each place as well.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    top: usize,

    /// Print one JSON object: tokens, logprobs (the first is null), top (for each token, id to logprob), sum,
    /// perplexity.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(arguments: &ScoreArguments, gpu: &Selector) -> anyhow::Result<()> {
    let opened = arguments.source.open(Class::CausalLm)?;
    let texts = arguments.inputs.read(&opened, &arguments.source.model)?;
    let mut model = opened.load_for(Text::longest(&texts), gpu).await?;
    for text in &texts {
        let score = text.found(model.score(&text.tokens, arguments.top).await)?;
        if arguments.json || text.index.is_some() {
            text.print_json(to_json(&text.tokens, &score))?;
        } else {
            print(&text.tokens, &score, opened.tokenizer.as_ref())?;
        }
    }
    keep_pipelines(model.gpu());
    Ok(())
}

fn to_json(tokens: &[u32], score: &Score) -> Value {
    let top = |top: &Vec<(u32, f64)>| top.iter().map(|(id, logprob)| (id.to_string(), json!(logprob))).collect();
    json!({
        "tokens": tokens,
        "logprobs": score.log_probabilities,
        "top": score.top.iter().map(top).collect::<Vec<Value>>(),
        "sum": score.sum(),
        "perplexity": score.perplexity(),
    })
}

fn print(tokens: &[u32], score: &Score, tokenizer: Option<&Tokenizer>) -> anyhow::Result<()> {
    let name = |id: u32| -> gptj::Result<String> {
        tokenizer.map_or_else(|| Ok(id.to_string()), |tokenizer| Ok(format!("{:?}", tokenizer.decode(&[id])?)))
    };
    let mut out = std::io::stdout();
    for ((&token, logprob), top) in tokens.iter().zip(&score.log_probabilities).zip(&score.top) {
        let logprob = logprob.map_or_else(|| "-".to_owned(), |logprob| format!("{logprob:.4}"));
        write!(out, "{logprob:>10}  {}", name(token)?)?;
        for (index, (id, logprob)) in top.iter().enumerate() {
            let separator = if index == 0 { "    likeliest: " } else { ", " };
            write!(out, "{separator}{} {logprob:.4}", name(*id)?)?;
        }
        writeln!(out)?;
    }
    let perplexity = score.perplexity().map_or_else(String::new, |perplexity| format!(", perplexity {perplexity:.4}"));
    writeln!(out, "{:>10.4}  together{perplexity}", score.sum())?;
    Ok(())
}
