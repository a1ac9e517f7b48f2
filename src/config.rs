//! What kind of GPT-J a checkpoint holds: `config.json`, checked, and what follows from it.
//!
//! The only place that knows numbers of GPT-J. The fields and their defaults are those of Hugging Face's
//! `GPTJConfig`, which `CodeGenConfig` shares; keys that the architecture does not have are ignored, as hub files carry
//! many.

use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};

/// Models whose blocks compute the same; they differ in how checkpoints hold q, k and v.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
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

/// The sizes of a model, all of them possible.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Config {
    /// How its checkpoint holds q, k and v.
    pub architecture: Architecture,
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
}

/// `config.json` as it is written.
#[derive(Deserialize)]
struct File {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
    #[serde(default = "default_vocab_size")]
    vocab_size: usize,
    #[serde(alias = "max_position_embeddings")]
    n_positions: Option<usize>,
    n_ctx: Option<usize>,
    #[serde(alias = "hidden_size", default = "default_n_embd")]
    n_embd: usize,
    #[serde(alias = "num_hidden_layers", default = "default_n_layer")]
    n_layer: usize,
    #[serde(alias = "num_attention_heads", default = "default_n_head")]
    n_head: usize,
    #[serde(default = "default_rotary_dim")]
    rotary_dim: Option<usize>,
    rotary: Option<bool>,
    n_inner: Option<usize>,
    activation_function: Option<String>,
    #[serde(default = "default_layer_norm_epsilon")]
    layer_norm_epsilon: f64,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default = "default_eos_token_id")]
    eos_token_id: Option<TokenIds>,
    /// Only forks of CodeGen have it.
    head_dim: Option<serde_json::Value>,
}

/// One id or a list of them; files have both.
#[derive(Deserialize)]
#[serde(untagged, expecting = "must be a token id or a list of them")]
enum TokenIds {
    One(u32),
    Many(Vec<u32>),
}

/// The shares of CodeGen's q, v and k, as transformers has them; and those of the forks whose configuration tells
/// `head_dim` and tells one of these, as CTranslate2 has them.
const CODEGEN_SHARES: usize = 4;
const CODEGEN_FORK_SHARES: usize = 8;
const CODEGEN_FORK_HEADS: [u64; 2] = [128, 256];

/// GPT-J's `<|endoftext|>`.
const END_OF_TEXT: u32 = 50_256;

fn default_vocab_size() -> usize {
    50_400
}

fn default_n_positions() -> usize {
    2048
}

fn default_n_embd() -> usize {
    4096
}

fn default_n_layer() -> usize {
    28
}

fn default_n_head() -> usize {
    16
}

// Serde wants the field's own type from a default.
#[expect(clippy::unnecessary_wraps, reason = "a missing key means 64, while null means the whole head")]
fn default_rotary_dim() -> Option<usize> {
    Some(64)
}

fn default_layer_norm_epsilon() -> f64 {
    1e-5
}

#[expect(clippy::unnecessary_wraps, reason = "a missing key means GPT-J's end of text, while null means none")]
fn default_eos_token_id() -> Option<TokenIds> {
    Some(TokenIds::One(END_OF_TEXT))
}

/// GPT-J-6B.
impl Default for Config {
    fn default() -> Self {
        Self {
            architecture: Architecture::GptJ,
            vocab_size: default_vocab_size(),
            n_positions: default_n_positions(),
            n_embd: default_n_embd(),
            n_layer: default_n_layer(),
            n_head: default_n_head(),
            rotary_dim: 64,
            n_inner: Self::usual_inner(default_n_embd()),
            layer_norm_epsilon: default_layer_norm_epsilon() as f32,
            tie_word_embeddings: false,
            eos_token_ids: vec![END_OF_TEXT],
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

    /// Reads and checks the text of a `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Config`] where it is not JSON, not a GPT-J, or impossible.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let refuse = |reason: String| Err(Error::config(path, reason));
        let mut json = serde_json::Deserializer::from_str(text);
        // Serde's own message would give the line but not the key.
        let file: File =
            serde_path_to_error::deserialize(&mut json).map_err(|error| Error::config(path, error.to_string()))?;
        json.end().map_err(|error| Error::config(path, error.to_string()))?;

        let is = |model_type: &str, class: &str| match (&file.model_type, &file.architectures) {
            (Some(kind), _) => kind == model_type,
            (None, Some(architectures)) => architectures.iter().any(|name| name.starts_with(class)),
            (None, None) => false,
        };
        let architecture = if is("gptj", "GPTJ") {
            Architecture::GptJ
        } else if is("codegen", "CodeGen") {
            let head_dim = file.head_dim.as_ref().and_then(serde_json::Value::as_u64);
            let is_fork = head_dim.is_some_and(|head_dim| CODEGEN_FORK_HEADS.contains(&head_dim));
            Architecture::CodeGen { shares: if is_fork { CODEGEN_FORK_SHARES } else { CODEGEN_SHARES } }
        } else {
            let kind = file.model_type.as_deref().unwrap_or("missing");
            return refuse(format!("not a GPT-J or CodeGen model: model_type is {kind}; it must be gptj or codegen"));
        };
        if file.rotary == Some(false) {
            return refuse("rotary is false; GPT-J and CodeGen have rotary position embeddings".to_owned());
        }
        // These names stand for one function.
        let activation = file.activation_function.as_deref().unwrap_or("gelu_new");
        if !["gelu_new", "gelu_fast", "gelu_pytorch_tanh"].contains(&activation) {
            return refuse(format!("activation_function is {activation}; that of GPT-J and CodeGen is gelu_new"));
        }

        let head_dim = file.n_embd.checked_div(file.n_head).unwrap_or(0);
        let config = Self {
            architecture,
            vocab_size: file.vocab_size,
            n_positions: file.n_positions.or(file.n_ctx).unwrap_or_else(default_n_positions),
            n_embd: file.n_embd,
            n_layer: file.n_layer,
            n_head: file.n_head,
            rotary_dim: file.rotary_dim.unwrap_or(head_dim),
            n_inner: file.n_inner.unwrap_or(Self::usual_inner(file.n_embd)),
            layer_norm_epsilon: file.layer_norm_epsilon as f32,
            tie_word_embeddings: file.tie_word_embeddings,
            eos_token_ids: match file.eos_token_id {
                Some(TokenIds::One(id)) => vec![id],
                Some(TokenIds::Many(ids)) => ids,
                None => Vec::new(),
            },
        };
        config.checked(path)
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

    /// What a `config.json` says of it, in the keys of Hugging Face's `GPTJConfig`.
    pub fn to_json(&self) -> serde_json::Value {
        let end_of_text = match self.eos_token_ids.as_slice() {
            [] => serde_json::Value::Null,
            [id] => (*id).into(),
            ids => ids.into(),
        };
        // The shortest decimal that gives the same f32; as an f64 it would be another, with more digits.
        let epsilon: f64 = self.layer_norm_epsilon.to_string().parse().unwrap_or(self.layer_norm_epsilon.into());
        serde_json::json!({
            "model_type": "gptj",
            "architectures": ["GPTJForCausalLM"],
            "vocab_size": self.vocab_size,
            "n_positions": self.n_positions,
            "n_embd": self.n_embd,
            "n_layer": self.n_layer,
            "n_head": self.n_head,
            "rotary_dim": self.rotary_dim,
            "n_inner": self.n_inner,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": epsilon,
            "tie_word_embeddings": self.tie_word_embeddings,
            "use_cache": true,
            // GPT-J's texts begin with the token that ends them.
            "bos_token_id": self.eos_token_ids.first(),
            "eos_token_id": end_of_text,
        })
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
        if let Some(token) = prompt.iter().find(|&&token| token as usize >= self.vocab_size) {
            let vocab_size = self.vocab_size;
            return Err(Error::Prompt(format!("token {token} is not in the vocabulary of {vocab_size} tokens")));
        }
        if prompt.len() > self.n_positions {
            let (length, context) = (prompt.len(), self.n_positions);
            return Err(Error::Prompt(format!(
                "the prompt has {length} tokens, but the model's context is {context}; shorten it by {}",
                length - context
            )));
        }
        Ok(())
    }

    /// Dimensions of one head.
    pub fn head_dim(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// What one head takes of a row in memory: whole chunks of eight.
    pub fn head_width(&self) -> usize {
        self.head_dim().next_multiple_of(8)
    }

    /// What all heads take of a row.
    pub fn heads_width(&self) -> usize {
        self.n_head * self.head_width()
    }

    /// Features of a block's first matrix, \[q_proj; k_proj; v_proj; fc_in\].
    pub fn block_in_features(&self) -> usize {
        3 * self.heads_width() + self.n_inner
    }

    /// Inputs of a block's second matrix, \[out_proj | fc_out\].
    pub fn block_out_inputs(&self) -> usize {
        self.heads_width() + self.n_inner.next_multiple_of(8)
    }

    /// A row of activations: attention's results, the MLP's hidden layer, and q.
    pub fn activation_width(&self) -> usize {
        self.block_out_inputs() + self.heads_width()
    }

    /// Weights and biases of a language model with this configuration.
    pub fn parameter_count(&self) -> u64 {
        let [vocab_size, n_embd, n_inner] = [self.vocab_size, self.n_embd, self.n_inner].map(|size| size as u64);
        let layer_norm = 2 * n_embd;
        let attention = 4 * n_embd * n_embd;
        let mlp = 2 * n_embd * n_inner + n_inner + n_embd;
        let wte = vocab_size * n_embd;
        let lm_head = if self.tie_word_embeddings { vocab_size } else { vocab_size * (n_embd + 1) };
        wte + self.n_layer as u64 * (layer_norm + attention + mlp) + layer_norm + lm_head
    }

    /// The cosine and sine of every position's angles: `position / 10000^(2i / rotary_dim)`, (n_positions,
    /// rotary_dim / 2) pairs.
    ///
    /// As in Hugging Face's `create_sinusoidal_positions`, the angle is an f32 product of f32 factors.
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

    fn parse(text: &str) -> Result<Config> {
        Config::parse(text, Path::new("config.json"))
    }

    #[test]
    fn gpt_j_6b_is_the_default() {
        let config = parse(r#"{"model_type": "gptj"}"#).expect("GPT-J-6B");
        assert_eq!(config, Config::default());
        assert_eq!(config.parameter_count(), 6_050_882_784);
        assert_eq!((config.head_dim(), config.rotary_dim, config.n_inner), (256, 64, 16_384));
        assert_eq!(config.eos_token_ids, [50_256]);
    }

    #[test]
    fn presets_have_the_sizes_of_their_names() {
        let parameters = ["6b", "1b", "tiny"].map(|name| Config::preset(name).expect(name).parameter_count());
        assert_eq!(parameters[0], 6_050_882_784);
        assert!((1_000_000_000..1_200_000_000).contains(&parameters[1]), "{parameters:?}");
        assert!(parameters[2] < 10_000_000, "{parameters:?}");
        assert_eq!(Config::preset("7b"), None);
    }

    #[test]
    fn null_means_derived_and_unknown_keys_are_ignored() {
        let config = parse(
            r#"{"architectures": ["GPTJForCausalLM"], "n_embd": 64, "n_head": 4, "n_ctx": 128, "rotary_dim": null,
                "n_inner": null, "summary_type": "cls_index", "intermediate_size": 37}"#,
        )
        .expect("a small GPT-J");
        assert_eq!((config.rotary_dim, config.n_inner, config.n_positions), (16, 256, 128));
    }

    #[test]
    fn codegen_has_four_shares_and_its_forks_with_other_heads_eight() {
        let architecture = |text: &str| parse(text).expect(text).architecture;
        for (text, shares) in [
            (r#"{"model_type": "codegen"}"#, 4),
            (r#"{"architectures": ["CodeGenForCausalLM"], "head_dim": null}"#, 4),
            (r#"{"model_type": "codegen", "head_dim": 64}"#, 4),
            (r#"{"model_type": "codegen", "head_dim": 256}"#, 8),
            (r#"{"model_type": "codegen", "n_embd": 2048, "head_dim": 128}"#, 8),
        ] {
            assert_eq!(architecture(text), Architecture::CodeGen { shares }, "{text}");
        }
        assert_eq!(architecture(r#"{"model_type": "gptj", "head_dim": 256}"#), Architecture::GptJ);
    }

    #[test]
    fn what_is_written_is_read() {
        let small = Config { tie_word_embeddings: true, layer_norm_epsilon: 0.01, ..Config::default() };
        let many = Config { eos_token_ids: vec![1, 2], rotary_dim: 256, n_inner: 77, ..Config::default() };
        let none = Config { eos_token_ids: Vec::new(), ..Config::default() };
        for config in [Config::default(), small, many, none] {
            assert_eq!(parse(&config.to_json().to_string()).expect("its own text"), config);
        }
        assert_eq!(
            Config::default().to_json()["layer_norm_epsilon"],
            1e-5,
            "the decimal, and not the f32's own digits"
        );
    }

    #[test]
    fn impossible_sizes_are_named() {
        for (text, name) in [
            (r#"{"model_type": "gptj", "n_embd": 100, "n_head": 16}"#, "n_head"),
            (r#"{"model_type": "gptj", "rotary_dim": 63}"#, "rotary_dim"),
            (r#"{"model_type": "gptj", "rotary_dim": 512}"#, "rotary_dim"),
            (r#"{"model_type": "gptj", "n_head": 0}"#, "n_head"),
            (r#"{"model_type": "gptj", "n_head": 1}"#, "n_embd / n_head"),
            (r#"{"model_type": "gptj", "n_layer": 99999999999}"#, "n_layer"),
            (r#"{"model_type": "gptj", "layer_norm_epsilon": 0}"#, "layer_norm_epsilon"),
            (r#"{"model_type": "gptj", "activation_function": "relu"}"#, "activation_function"),
            (r#"{"model_type": "gptj", "rotary": false}"#, "rotary"),
            (r#"{"model_type": "llama"}"#, "GPT-J or CodeGen"),
            (r#"{"model_type": "codegen", "n_embd": 96, "n_head": 6}"#, "n_head (6) is not divisible by 4"),
            (r#"{"n_embd": 64}"#, "gptj"),
            (r#"{"model_type": "gptj", "n_embd": -1}"#, "n_embd"),
        ] {
            let message = parse(text).expect_err(text).to_string();
            assert!(message.contains(name), "{text}: {message}");
        }
    }
}
