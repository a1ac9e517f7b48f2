//! A model's configuration: its sizes, its class, and values that follow from these.
//!
//! Only this module and `file`, for `config.json`, know GPT-J's own sizes.

mod directory;
mod file;

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub(crate) use directory::read_config;

use crate::error::{Error, Result};

/// The architectures. Their blocks are the same; their checkpoints store q, k and v differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// One matrix each for q, k and v.
    GptJ,
    /// One matrix for all three, in the shares of the model's training, each with its heads' q, v and k.
    CodeGen {
        /// The number of shares.
        shares: usize,
    },
}

/// The head of a model, by Hugging Face's classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// `GPTJModel`: no head.
    Model,
    /// `GPTJForCausalLM`: logits of the next token.
    CausalLm,
    /// `GPTJForSequenceClassification`: logits of labels, at the text's last token.
    SequenceClassification,
    /// `GPTJForQuestionAnswering`: logits of the answer's start and end, at each token.
    QuestionAnswering,
}

impl Class {
    /// The class's name without the architecture.
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

/// The meaning of label logits, which decides how they become probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemType {
    /// They are the result themselves.
    Regression,
    /// Exactly one label is right.
    SingleLabelClassification,
    /// Any number of labels may be right.
    MultiLabelClassification,
}

/// A model's configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// The layout of q, k and v in its checkpoint.
    pub architecture: Architecture,
    /// Its head.
    pub class: Class,
    /// Rows of the embedding and of `lm_head`; GPT-J-6B's 50,400 include 143 that its tokenizer does not use.
    pub vocab_size: usize,
    /// The longest context, in tokens.
    pub n_positions: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// The number of blocks.
    pub n_layer: usize,
    /// Attention heads per block.
    pub n_head: usize,
    /// Leading dimensions of each head that rotary embeddings rotate.
    pub rotary_dim: usize,
    /// Width of the MLP's hidden layer.
    pub n_inner: usize,
    /// Added to the variance in layer norm.
    pub layer_norm_epsilon: f32,
    /// Whether `lm_head` shares the embedding's weights.
    pub tie_word_embeddings: bool,
    /// The tokens that end a text.
    pub eos_token_ids: Vec<u32>,
    /// The token before a text, for tokenizers that add one; GPT-J's does not.
    pub bos_token_id: Option<u32>,
    /// The padding token of Hugging Face's batches. Nothing is padded here, but classification pools at the last non-pad
    /// token.
    pub pad_token_id: Option<u32>,
    /// The names of the labels of a sequence classification.
    pub labels: Vec<String>,
    /// The meaning of their logits, if the file says it.
    pub problem_type: Option<ProblemType>,
}

/// Hugging Face's names for unnamed labels.
fn numbered_labels(count: usize) -> Vec<String> {
    (0..count).map(|id| format!("LABEL_{id}")).collect()
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
            labels: numbered_labels(2),
            problem_type: None,
        }
    }
}

/// More than any real model has: the file is damaged.
const ABSURD: usize = 1 << 20;
/// The same for blocks, each of which costs ten lookups.
const ABSURD_LAYERS: usize = 1 << 12;
/// Each lane of an attention workgroup takes eight dimensions, and some GPUs allow only 256 lanes.
const LARGEST_HEAD: usize = 8 * 256;

/// Named sizes for benchmarks: GPT-J-6B, a model of 1.1 billion parameters with the same heads, and one for software
/// drivers.
const PRESETS: [(&str, &str); 3] = [
    ("6b", r#"{"model_type": "gptj"}"#),
    ("1b", r#"{"model_type": "gptj", "n_embd": 2048, "n_layer": 16, "n_head": 8}"#),
    (
        "tiny",
        r#"{"model_type": "gptj", "vocab_size": 1000, "n_embd": 256, "n_layer": 4, "n_head": 4, "eos_token_id": null}"#,
    ),
];

impl Config {
    /// The base of the rotary embeddings' wavelengths.
    pub const ROTARY_BASE: f32 = 10_000.0;

    /// The preset of this name: `6b` (GPT-J-6B), `1b` or `tiny`.
    pub fn preset(name: &str) -> Option<Self> {
        let (_, text) = PRESETS.into_iter().find(|(preset, _)| *preset == name)?;
        Some(Self::parse(text, Path::new(name)).expect("the presets are possible"))
    }

    /// The default width of the MLP's hidden layer.
    pub(crate) fn usual_inner(n_embd: usize) -> usize {
        n_embd.saturating_mul(4)
    }

    /// Returns it if it is possible; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Config`] if it is not.
    pub fn checked(self, path: &Path) -> Result<Self> {
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
                "n_head ({}) is not divisible by {shares}, the number of shares of a CodeGen's qkv_proj",
                self.n_head
            ));
        }
        if self.head_dim() > LARGEST_HEAD {
            return Err(format!(
                "a head has {} dimensions (n_embd / n_head); at most {LARGEST_HEAD} are supported",
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

    /// Fails unless a model of this configuration can read `prompt` from its first position on.
    ///
    /// # Errors
    /// [`Error::Prompt`] if it is empty, too long, or has a token that is not in the vocabulary.
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

    /// Fails unless all tokens are in the vocabulary.
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

    /// The dimensions of one head.
    pub fn head_dim(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// The output features of the model's head; 0 if it has none.
    pub fn head_features(&self) -> usize {
        match self.class {
            Class::Model => 0,
            Class::CausalLm => self.vocab_size,
            Class::SequenceClassification => self.labels.len(),
            Class::QuestionAnswering => 2,
        }
    }

    /// The number of weights and biases.
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
