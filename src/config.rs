//! What kind of GPT-J a checkpoint holds, and what follows from it.
//!
//! This and `config.json`'s own module are the only places that know numbers of GPT-J.

mod file;

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Models whose blocks compute the same; they differ in how checkpoints hold q, k and v.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// A matrix each for q, k and v.
    GptJ,
    /// One matrix for all three, in as many shares as the model was trained on, each with its heads' q, v and k.
    CodeGen {
        /// How many shares.
        shares: usize,
    },
}

/// What a model makes of its last hidden states: the classes that Hugging Face has of a GPT-J.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// `GPTJModel`: nothing.
    Model,
    /// `GPTJForCausalLM`: logits of the next token.
    CausalLm,
    /// `GPTJForSequenceClassification`: logits of labels, at the text's last token.
    SequenceClassification,
    /// `GPTJForQuestionAnswering`: how likely the answer starts and ends at each token.
    QuestionAnswering,
}

impl Class {
    /// What follows the architecture in the class's name.
    fn suffix(self) -> &'static str {
        match self {
            Self::Model => "Model",
            Self::CausalLm => "ForCausalLM",
            Self::SequenceClassification => "ForSequenceClassification",
            Self::QuestionAnswering => "ForQuestionAnswering",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GPTJ{}", self.suffix())
    }
}

/// What the logits of labels mean, which decides how they become probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemType {
    /// They are numbers of their own.
    Regression,
    /// One of the labels is right.
    SingleLabelClassification,
    /// Each of the labels may be right.
    MultiLabelClassification,
}

/// The sizes of a model, all of them possible, and what it is for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// How its checkpoint holds q, k and v.
    pub architecture: Architecture,
    /// What it is for.
    pub class: Class,
    /// Rows of the embedding and of `lm_head`; GPT-J-6B's 50,400 include 143 that its tokenizer does not use.
    pub vocab_size: usize,
    /// The longest history a position can have, itself included.
    pub n_positions: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Blocks.
    pub n_layer: usize,
    /// Attention heads of a block.
    pub n_head: usize,
    /// Leading dimensions of each head that rotate with the position.
    pub rotary_dim: usize,
    /// Width of the MLP's hidden layer.
    pub n_inner: usize,
    /// What layer norm adds to the variance.
    pub layer_norm_epsilon: f32,
    /// Whether `lm_head` shares the embedding's weights.
    pub tie_word_embeddings: bool,
    /// The tokens that end a text.
    pub eos_token_ids: Vec<u32>,
    /// The token that texts begin with where a tokenizer adds one, which GPT-J's does not.
    pub bos_token_id: Option<u32>,
    /// What texts of different lengths are filled up with in Hugging Face's batches. Here there is no such filling, but
    /// a text's class is read at its last token that is another.
    pub pad_token_id: Option<u32>,
    /// The names of the labels of a sequence classification.
    pub labels: Vec<String>,
    /// What their logits mean, where the file tells.
    pub problem_type: Option<ProblemType>,
}

/// GPT-J's `<|endoftext|>`.
const END_OF_TEXT: u32 = 50_256;

/// GPT-J-6B.
impl Default for Config {
    fn default() -> Self {
        Self {
            architecture: Architecture::GptJ,
            class: Class::CausalLm,
            vocab_size: 50_400,
            n_positions: 2048,
            n_embd: 4096,
            n_layer: 28,
            n_head: 16,
            rotary_dim: 64,
            n_inner: Self::usual_inner(4096),
            layer_norm_epsilon: 1e-5,
            tie_word_embeddings: false,
            eos_token_ids: vec![END_OF_TEXT],
            bos_token_id: Some(END_OF_TEXT),
            pad_token_id: None,
            labels: file::numbered_labels(2),
            problem_type: None,
        }
    }
}

/// Beyond any model that could be meant; such a number is a damaged file.
const ABSURD: usize = 1 << 20;
/// The same for blocks, each of which has ten tensors to look for.
const ABSURD_LAYERS: usize = 1 << 12;
/// A lane of attention's workgroups takes eight dimensions, and a workgroup has at most 256 lanes on some GPUs.
const LARGEST_HEAD: usize = 8 * 256;

/// The sizes that benchmarks know by name: GPT-J-6B, a model of 1.1 billion parameters with the same heads, and one for
/// software drivers.
const PRESETS: [(&str, &str); 3] = [
    ("6b", r#"{"model_type": "gptj"}"#),
    ("1b", r#"{"model_type": "gptj", "n_embd": 2048, "n_layer": 16, "n_head": 8}"#),
    (
        "tiny",
        r#"{"model_type": "gptj", "vocab_size": 1000, "n_embd": 256, "n_layer": 4, "n_head": 4, "eos_token_id": null}"#,
    ),
];

impl Config {
    /// What the wavelengths of rotary positions grow towards.
    pub(crate) const ROTARY_BASE: f32 = 10_000.0;

    /// The sizes of this name: `6b` is GPT-J-6B; `1b` and `tiny` are smaller.
    pub fn preset(name: &str) -> Option<Self> {
        let (_, text) = PRESETS.into_iter().find(|(preset, _)| *preset == name)?;
        Some(Self::parse(text, Path::new(name)).expect("the presets are possible"))
    }

    /// The width of the MLP's hidden layer, where a file does not tell it.
    pub(crate) fn usual_inner(n_embd: usize) -> usize {
        n_embd.saturating_mul(4)
    }

    /// Itself, if it is possible; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Config`] where it is not.
    pub(crate) fn checked(self, path: &Path) -> Result<Self> {
        self.check().map_err(|reason| Error::config(path, reason))?;
        Ok(self)
    }

    fn check(&self) -> Result<(), String> {
        let sizes = [
            ("vocab_size", self.vocab_size, ABSURD),
            ("n_positions", self.n_positions, ABSURD),
            ("n_embd", self.n_embd, ABSURD),
            ("n_layer", self.n_layer, ABSURD_LAYERS),
            ("n_head", self.n_head, ABSURD),
            ("n_inner", self.n_inner, ABSURD),
        ];
        for (name, size, absurd) in sizes {
            if size == 0 || size > absurd {
                return Err(format!("{name} is {size}; it must be between 1 and {absurd}"));
            }
        }
        if self.class == Class::SequenceClassification && self.labels.is_empty() {
            return Err("id2label names no label".to_owned());
        }
        if !self.n_embd.is_multiple_of(self.n_head) {
            return Err(format!("n_embd ({}) is not divisible by n_head ({})", self.n_embd, self.n_head));
        }
        if let Architecture::CodeGen { shares } = self.architecture
            && !self.n_head.is_multiple_of(shares)
        {
            return Err(format!(
                "n_head ({}) is not divisible by {shares}, the shares that a CodeGen's qkv_proj consists of",
                self.n_head
            ));
        }
        if self.head_dim() > LARGEST_HEAD {
            return Err(format!(
                "a head has {} dimensions (n_embd / n_head); at most {LARGEST_HEAD} can be had",
                self.head_dim()
            ));
        }
        if self.rotary_dim == 0 || !self.rotary_dim.is_multiple_of(2) || self.rotary_dim > self.head_dim() {
            return Err(format!(
                "rotary_dim is {}; it must be even and between 2 and the head's {} dimensions",
                self.rotary_dim,
                self.head_dim()
            ));
        }
        if !(self.layer_norm_epsilon > 0.0 && self.layer_norm_epsilon < 1.0) {
            return Err(format!("layer_norm_epsilon is {}; it must be between 0 and 1", self.layer_norm_epsilon));
        }
        Ok(())
    }

    /// Whether a model of this configuration can take `prompt` from its first position on.
    ///
    /// # Errors
    /// [`Error::Prompt`] where it is empty, too long, or has a token that is not in the vocabulary.
    pub fn check_prompt(&self, prompt: &[u32]) -> Result<()> {
        if prompt.is_empty() {
            return Err(Error::Prompt("the prompt is empty; it must have at least one token".to_owned()));
        }
        self.check_tokens(prompt)?;
        if prompt.len() > self.n_positions {
            let (length, context) = (prompt.len(), self.n_positions);
            return Err(Error::Prompt(format!(
                "the prompt has {length} tokens, but the model's context is {context}; shorten it by {}",
                length - context
            )));
        }
        Ok(())
    }

    /// Whether all of some tokens are in the vocabulary.
    ///
    /// # Errors
    /// [`Error::Prompt`] for the first that is not.
    pub fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        match tokens.iter().find(|&&token| token as usize >= self.vocab_size) {
            None => Ok(()),
            Some(token) => {
                let vocab_size = self.vocab_size;
                Err(Error::Prompt(format!("token {token} is not in the vocabulary of {vocab_size} tokens")))
            }
        }
    }

    /// Dimensions of one head.
    pub fn head_dim(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// What one head takes of a row in memory: whole chunks of eight.
    #[doc(hidden)]
    pub fn head_width(&self) -> usize {
        self.head_dim().next_multiple_of(8)
    }

    /// What all heads take of a row.
    #[doc(hidden)]
    pub fn heads_width(&self) -> usize {
        self.n_head * self.head_width()
    }

    /// Features of a block's first matrix, \[q_proj; k_proj; v_proj; fc_in\].
    #[doc(hidden)]
    pub fn block_in_features(&self) -> usize {
        3 * self.heads_width() + self.n_inner
    }

    /// Inputs of a block's second matrix, \[out_proj | fc_out\].
    #[doc(hidden)]
    pub fn block_out_inputs(&self) -> usize {
        self.heads_width() + self.n_inner.next_multiple_of(8)
    }

    /// A row of activations: attention's results, the MLP's hidden layer, and q.
    #[doc(hidden)]
    pub fn activation_width(&self) -> usize {
        self.block_out_inputs() + self.heads_width()
    }

    /// Numbers that the model's head makes of a hidden state; 0 where it has no head.
    pub fn head_features(&self) -> usize {
        match self.class {
            Class::Model => 0,
            Class::CausalLm => self.vocab_size,
            Class::SequenceClassification => self.labels.len(),
            Class::QuestionAnswering => 2,
        }
    }

    /// Weights and biases of a model with this configuration.
    pub fn parameter_count(&self) -> u64 {
        let [vocab_size, n_embd, n_inner] = [self.vocab_size, self.n_embd, self.n_inner].map(|size| size as u64);
        let layer_norm = 2 * n_embd;
        let attention = 4 * n_embd * n_embd;
        let mlp = 2 * n_embd * n_inner + n_inner + n_embd;
        let wte = vocab_size * n_embd;
        let features = self.head_features() as u64;
        let head = match self.class {
            Class::CausalLm if self.tie_word_embeddings => features,
            Class::SequenceClassification => features * n_embd,
            _ => features * (n_embd + 1),
        };
        wte + self.n_layer as u64 * (layer_norm + attention + mlp) + layer_norm + head
    }

    /// The cosine and sine of every position's angles: `position / 10000^(2i / rotary_dim)`, (n_positions,
    /// rotary_dim / 2) pairs.
    ///
    /// As in Hugging Face's `create_sinusoidal_positions`, the angle is an f32 product of f32 factors.
    #[doc(hidden)]
    pub fn rotary_angles(&self, n_positions: usize) -> Vec<[f32; 2]> {
        let frequencies: Vec<f32> = (0..self.rotary_dim)
            .step_by(2)
            .map(|i| 1.0 / Self::ROTARY_BASE.powf(i as f32 / self.rotary_dim as f32))
            .collect();
        (0..n_positions)
            .flat_map(|position| frequencies.iter().map(move |frequency| position as f32 * frequency))
            .map(|angle| [angle.cos(), angle.sin()])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_have_the_sizes_of_their_names() {
        let parameters = ["6b", "1b", "tiny"].map(|name| Config::preset(name).expect(name).parameter_count());
        assert_eq!(parameters[0], 6_050_882_784);
        assert!((1_000_000_000..1_200_000_000).contains(&parameters[1]), "{parameters:?}");
        assert!(parameters[2] < 10_000_000, "{parameters:?}");
        assert_eq!(Config::preset("7b"), None);
    }
}
