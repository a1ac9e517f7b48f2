//! `gptj answer`: the part of a text that answers a question.

use std::io::Write;

use clap::Args;
use gptj::{Class, Selector, answer_tokens};
use serde_json::json;

use super::input::{Ids, Input, encode};
use super::load::{Source, first_step};
use super::{keep_pipelines, out, print_json};

/// Find the answer to a question in a text with a GPTJForQuestionAnswering.
///
/// The answer is the likeliest run of tokens, which may begin or end within a word. Question and context must fit into
/// the model's context.
#[derive(Args)]
pub(crate) struct AnswerArguments {
    #[command(flatten)]
    source: Source,

    /// The question.
    #[arg(long, help_heading = "Input", value_name = "TEXT", allow_hyphen_values = true)]
    #[arg(required_unless_present = "question_tokens")]
    question: Option<String>,

    /// The question as token ids.
    #[arg(long, help_heading = "Input", value_name = "IDS", allow_negative_numbers = true)]
    #[arg(conflicts_with = "question")]
    question_tokens: Option<Ids>,

    /// The text to find the answer in; the same as --text.
    #[arg(long, help_heading = "Input", value_name = "TEXT", allow_hyphen_values = true)]
    #[arg(conflicts_with_all = ["text", "file", "tokens"])]
    context: Option<String>,

    #[command(flatten)]
    input: Input,

    /// The longest answer, in tokens.
    #[arg(long, help_heading = "Output", value_name = "N", default_value_t = 15, allow_negative_numbers = true)]
    max_answer_tokens: usize,

    /// Print one JSON object: answer, score, start and end (the first and last token, counted in the context),
    /// start_logits, end_logits (of question and context).
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(crate) async fn run(arguments: &AnswerArguments, gpu: &Selector) -> anyhow::Result<()> {
    let opened = arguments.source.open(Class::QuestionAnswering)?;
    let (tokenizer, model) = (opened.tokenizer.as_ref(), &arguments.source.model);
    let question = match (&arguments.question, &arguments.question_tokens) {
        (Some(text), _) => encode(text, tokenizer, model)?,
        (None, tokens) => tokens.clone().unwrap_or_default().0,
    };
    let context = match &arguments.context {
        Some(text) => encode(text, tokenizer, model)?,
        None => arguments.input.tokens(tokenizer, model)?,
    };
    let longest = arguments.max_answer_tokens;
    let tokens = answer_tokens(opened.config(), &question, &context, longest)?;
    let mut model = opened.load_for(tokens.len(), gpu).await?;
    let found = first_step(model.answer(&question, &context, longest)).await?;
    keep_pipelines(model.gpu());
    let tokens = &context[found.span.clone()];
    let text = tokenizer.map(|tokenizer| tokenizer.decode(tokens)).transpose()?;
    if arguments.json {
        return print_json(&json!({
            "answer": text.as_deref().map(str::trim),
            "score": found.score,
            "start": found.span.start(),
            "end": found.span.end(),
            "start_logits": found.start_logits,
            "end_logits": found.end_logits,
        }));
    }
    let ids = || tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let answer = text.as_deref().map_or_else(ids, |text| text.trim().to_owned());
    writeln!(out(), "{answer}")?;
    Ok(())
}
