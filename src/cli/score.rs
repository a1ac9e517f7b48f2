//! `gptj score`: how likely each token of a text is.

use std::io::Write;

use clap::Args;
use gptj::{Class, Model, Score, Selector, Tokenizer};
use serde_json::{Value, json};

use super::load::Source;
use super::out;
use super::texts::{Analysis, Inputs};

/// Show how likely each token of a text is, given those before it.
#[derive(Args)]
#[command(after_long_help = "Examples:
  gptj score -p 'To be, or not to be' --top 3
  gptj score -f essay.txt --json
  gptj score --texts sentences.txt > scores.jsonl")]
pub(crate) struct ScoreArguments {
    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    inputs: Inputs,

    /// Show the N most likely tokens at each position as well.
    #[arg(long, help_heading = "Output", value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    top: usize,

    /// Print one JSON object: tokens, logprobs (the first is null), top (for each token, id to logprob), sum,
    /// perplexity.
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(crate) async fn run(arguments: &ScoreArguments, gpu: &Selector) -> anyhow::Result<()> {
    let ScoreArguments { source, inputs, top, json } = arguments;
    let opened = source.open(Class::CausalLm)?;
    let scores = Scores { top: *top, tokenizer: opened.tokenizer.as_ref() };
    inputs.each(source, &opened, gpu, *json, &scores).await
}

struct Scores<'a> {
    top: usize,
    tokenizer: Option<&'a Tokenizer>,
}

impl Analysis for Scores<'_> {
    type Found = Score;

    async fn run(&self, model: &mut Model, tokens: &[u32]) -> gptj::Result<Score> {
        model.score(tokens, self.top).await
    }

    fn json(&self, tokens: &[u32], score: &Score) -> Value {
        let top = |top: &Vec<(u32, f64)>| top.iter().map(|(id, logprob)| (id.to_string(), json!(logprob))).collect();
        json!({
            "tokens": tokens,
            "logprobs": score.log_probabilities,
            "top": score.top.iter().map(top).collect::<Vec<Value>>(),
            "sum": score.sum(),
            "perplexity": score.perplexity(),
        })
    }

    fn print(&self, tokens: &[u32], score: &Score) -> anyhow::Result<()> {
        print(tokens, score, self.tokenizer)
    }
}

fn print(tokens: &[u32], score: &Score, tokenizer: Option<&Tokenizer>) -> anyhow::Result<()> {
    let name = |id: u32| -> gptj::Result<String> {
        tokenizer.map_or_else(|| Ok(id.to_string()), |tokenizer| Ok(format!("{:?}", tokenizer.decode(&[id])?)))
    };
    let mut out = out();
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
    writeln!(out, "{:>10.4}  sum{perplexity}", score.sum())?;
    Ok(())
}
