//! The options that choose tokens, as arguments and by name.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use gptj::{GenerateOptions, SamplingOptions, Tokenizer};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ModelArguments;
use super::input::{Ids, encode};

/// The options of Hugging Face's `generate()`.
#[derive(Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArguments {
    /// Generate at most this many tokens [default: 128]
    #[arg(long, short = 'n', value_name = "N", allow_negative_numbers = true)]
    max_new_tokens: Option<usize>,

    /// The most tokens of prompt and text together; --max-new-tokens overrides it.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_length: Option<usize>,

    /// End the text before this string; may be given more than once.
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    stop: Vec<String>,

    /// The tokens that end the text, instead of the model's own.
    #[arg(long, value_name = "IDS", allow_negative_numbers = true)]
    eos_token_id: Option<Ids>,

    /// Always take the most likely token, like --temperature 0.
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "min_p", "typical_p"])]
    #[arg(conflicts_with_all = ["epsilon_cutoff", "eta_cutoff", "seed"])]
    greedy: bool,

    /// The same seed on the same GPU gives the same text. The default is a new one each time.
    #[arg(long, short, value_name = "S", allow_negative_numbers = true)]
    seed: Option<u64>,

    /// Below 1: more predictable; above 1: more surprising; 0: always the most likely token.
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    temperature: f32,

    /// Choose only among the K most likely tokens; 0 means all.
    #[arg(long, value_name = "K", default_value_t = 50, allow_negative_numbers = true)]
    top_k: usize,

    /// Choose only among the fewest most likely tokens whose probabilities add up to P.
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f32,

    /// Choose only among tokens at least P times as likely as the most likely one.
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    min_p: f32,

    /// Choose only among the tokens whose information is closest to the expected, with probabilities adding up to P.
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    typical_p: f32,

    /// Choose only among tokens at least this likely.
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    epsilon_cutoff: f32,

    /// The same, but less strict if many tokens are likely.
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    eta_cutoff: f32,

    /// Make tokens that have appeared less likely; 1 means no change.
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f32,

    /// Subtract this from the logits of tokens already generated.
    #[arg(long, value_name = "A", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,

    /// Subtract this from a token's logit each time it is generated.
    #[arg(long, value_name = "A", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,

    /// Never generate the same N tokens in a row twice; 0 allows it.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    no_repeat_ngram_size: usize,

    /// Never generate this text, with or without a space before it; may be given more than once.
    #[arg(long = "bad-word", value_name = "TEXT", allow_hyphen_values = true)]
    bad_words: Vec<String>,

    /// Add B to the logit of token ID; may be given more than once.
    #[arg(long, value_name = "ID=B", value_parser = parse_bias)]
    logit_bias: Vec<(u32, f32)>,

    /// Do not end the text before it has this many tokens, the prompt's included.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    min_length: usize,

    /// Do not end the text before this many tokens are generated.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    min_new_tokens: usize,

    /// After START generated tokens, make the end of the text likelier by FACTOR with each.
    #[arg(long, value_name = "START,FACTOR", value_parser = parse_decay)]
    exponential_decay_length_penalty: Option<(usize, f32)>,

    /// Never generate these tokens.
    #[arg(long, value_name = "IDS", allow_negative_numbers = true)]
    suppress_tokens: Option<Ids>,

    /// Do not generate these tokens first.
    #[arg(long, value_name = "IDS", allow_negative_numbers = true)]
    begin_suppress_tokens: Option<Ids>,

    /// After a prompt of one token, generate this one.
    #[arg(long, value_name = "ID")]
    forced_bos_token_id: Option<u32>,

    /// End a text that reaches its maximum length with this token.
    #[arg(long, value_name = "ID")]
    forced_eos_token_id: Option<u32>,
}

fn parse_bias(text: &str) -> Result<(u32, f32), String> {
    let parts = text.split_once('=').and_then(|(token, bias)| Some((token.parse().ok()?, bias.parse().ok()?)));
    parts.ok_or_else(|| "must be a token id and a number, as in 42=-1.5".to_owned())
}

fn parse_decay(text: &str) -> Result<(usize, f32), String> {
    let parts = text.split_once(',').and_then(|(start, factor)| Some((start.parse().ok()?, factor.parse().ok()?)));
    parts.ok_or_else(|| "must be a number of tokens and a factor, as in 50,1.05".to_owned())
}

impl SamplingArguments {
    /// The options; without a seed, a new one. They may be changed by [`set`] until they are [`settled`].
    pub(crate) fn options(
        &self,
        tokenizer: Option<&Tokenizer>,
        model: &ModelArguments,
    ) -> anyhow::Result<GenerateOptions> {
        let mut bad_words_ids = Vec::new();
        for word in &self.bad_words {
            bad_words_ids.push(encode(word, tokenizer, model)?);
            bad_words_ids.push(encode(&format!(" {word}"), tokenizer, model)?);
        }
        let sampling = SamplingOptions {
            greedy: self.greedy,
            logit_bias: self.logit_bias.iter().copied().collect(),
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            no_repeat_ngram_size: self.no_repeat_ngram_size,
            bad_words_ids,
            min_length: self.min_length,
            min_new_tokens: self.min_new_tokens,
            forced_bos_token_id: self.forced_bos_token_id,
            forced_eos_token_id: self.forced_eos_token_id,
            exponential_decay_length_penalty: self.exponential_decay_length_penalty,
            suppress_tokens: self.suppress_tokens.clone().unwrap_or_default().0,
            begin_suppress_tokens: self.begin_suppress_tokens.clone().unwrap_or_default().0,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            epsilon_cutoff: self.epsilon_cutoff,
            eta_cutoff: self.eta_cutoff,
            seed: self.seed.unwrap_or_else(new_seed),
        };
        Ok(GenerateOptions {
            max_new_tokens: self.max_new_tokens,
            max_length: self.max_length,
            sampling,
            stop: self.stop.clone(),
            eos_token_ids: self.eos_token_id.clone().map(|ids| ids.0),
            scores: false,
        })
    }
}

/// The options that [`set`] knows beside those of [`SamplingOptions`].
const OTHER_NAMES: [&str; 5] = ["max_new_tokens", "max_length", "eos_token_id", "stop", "do_sample"];

/// The options as a model takes them: a temperature of 0 means the most likely token.
pub(super) fn settled(mut options: GenerateOptions) -> GenerateOptions {
    if options.sampling.temperature == 0.0 {
        options.sampling.temperature = 1.0;
        options.sampling.greedy = true;
    }
    options
}

/// Changes an option by its name in Hugging Face.
pub(super) fn set(options: &mut GenerateOptions, name: &str, value: Value) -> anyhow::Result<()> {
    match name {
        "max_new_tokens" => options.max_new_tokens = take("max_new_tokens", value)?,
        "max_length" => options.max_length = take("max_length", value)?,
        "eos_token_id" if value.is_u64() => options.eos_token_ids = Some(vec![take("eos_token_id", value)?]),
        "eos_token_id" => options.eos_token_ids = take("eos_token_id", value)?,
        "stop" | "stop_strings" if value.is_string() => options.stop = vec![take("stop", value)?],
        "stop" | "stop_strings" => options.stop = take("stop", value)?,
        // As in JSON output, a seed that does not fit an f64.
        "seed" if value.is_string() => {
            let text: String = take("seed", value)?;
            options.sampling.seed = text.parse().map_err(|_| anyhow!("seed: {text:?} is not a number of 0 or more"))?;
        }
        "do_sample" => options.sampling.greedy = !take::<bool>("do_sample", value)?,
        _ => {
            // JSON has no minus infinity, which a bias may be.
            let unbiased = SamplingOptions { logit_bias: BTreeMap::new(), ..options.sampling.clone() };
            let mut changed = serde_json::to_value(unbiased)?;
            let Some(option) = changed.get_mut(name) else {
                let names = changed.as_object().into_iter().flat_map(|options| options.keys());
                let names: Vec<_> = OTHER_NAMES.into_iter().chain(names.map(String::as_str)).collect();
                match similar(name, &names) {
                    Some(similar) => bail!("there is no option {name}; did you mean {similar}?"),
                    None => bail!("there is no option {name}; there are {}", names.join(", ")),
                }
            };
            *option = value;
            let mut changed: SamplingOptions = serde_path_to_error::deserialize(changed)?;
            if name != "logit_bias" {
                changed.logit_bias = std::mem::take(&mut options.sampling.logit_bias);
            }
            options.sampling = changed;
        }
    }
    Ok(())
}

/// The most similar name, if one is similar, by clap's measure for its own options.
fn similar<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let likeness = |&other| (strsim::jaro(name, other), other);
    let (likeness, name) = names.iter().map(likeness).max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (likeness > 0.7).then_some(name)
}

pub(super) fn take<T: DeserializeOwned>(name: &'static str, value: Value) -> anyhow::Result<T> {
    serde_json::from_value(value).context(name)
}

/// A seed that differs from run to run and is short enough to type.
fn new_seed() -> u64 {
    RandomState::new().hash_one(0) >> 32
}
