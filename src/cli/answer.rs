//! `gptj answer`: the part of a text that answers a question.

use std::io::Write;

use clap::Args;
use gptj::{Class, Selector};
use serde_json::json;

use super::input::{Ids, Input, encode};
use super::load::Source;
use super::{keep_pipelines, print_json};

/// Find the answer to a question in a text with a GPTJForQuestionAnswering.
///
/// The answer is the likeliest run of tokens, which may begin or end within a word. Question and context must fit into
/// the model's context.
#[derive(Args)]
pub(crate) struct AnswerArguments {
    #[command(flatten)]
    source: Source,

    /// The question.
    #[arg(long, value_name = "TEXT", required_unless_present = "question_tokens", allow_hyphen_values = true)]
    question: Option<String>,

    /// The question as token ids.
    #[arg(long, value_name = "IDS", allow_negative_numbers = true, conflicts_with = "question")]
    question_tokens: Option<Ids>,

    /// The text to find the answer in; the same as --text.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["text", "file", "tokens"], allow_hyphen_values = true)]
    context: Option<String>,

    #[command(flatten)]
    input: Input,

    /// The longest answer, in tokens.
    #[arg(long, value_name = "N", default_value_t = 15, allow_negative_numbers = true)]
    max_answer_tokens: usize,

    /// Print one JSON object: answer, score, start and end (tokens of the context, from its first to its last),
    /// start_logits, end_logits (of question and context).
    #[arg(long)]
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
    let tokens = opened.config().check_question(&question, &context, longest)?;
    let mut model = opened.load_for(tokens.len(), gpu).await?;
    let found = model.answer(&question, &context, longest).await?;
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
    writeln!(std::io::stdout(), "{answer}")?;
    Ok(())
}
