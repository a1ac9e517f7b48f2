//! `config.json`, read and written.
//!
//! The keys and their defaults are those of Hugging Face's `GPTJConfig`, which `CodeGenConfig` shares. Unknown keys are
//! ignored: files on the Hub have many.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{ABSURD, Architecture, Class, Config, END_OF_TEXT, ProblemType, numbered_labels};
use crate::error::{Error, Result};
use crate::message::shown;

/// `config.json` as it is written.
#[derive(Deserialize)]
struct File {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
    vocab_size: Option<usize>,
    n_positions: Option<usize>,
    n_ctx: Option<usize>,
    n_embd: Option<usize>,
    n_layer: Option<usize>,
    n_head: Option<usize>,
    // The same under the names that transformers uses for all models; a file may have both.
    max_position_embeddings: Option<usize>,
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    #[serde(default = "default_rotary_dim")]
    rotary_dim: Option<usize>,
    rotary: Option<bool>,
    n_inner: Option<usize>,
    activation_function: Option<String>,
    layer_norm_epsilon: Option<f64>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default = "default_eos_token_id")]
    eos_token_id: Option<TokenIds>,
    #[serde(default = "default_bos_token_id")]
    bos_token_id: Option<u32>,
    pad_token_id: Option<i64>,
    id2label: Option<Value>,
    num_labels: Option<usize>,
    problem_type: Option<ProblemType>,
    /// Only in forks of CodeGen.
    head_dim: Option<Value>,
}

/// One id or a list of them; both occur.
#[derive(Deserialize)]
#[serde(untagged, expecting = "must be a token id or a list of them")]
enum TokenIds {
    One(u32),
    Many(Vec<u32>),
}

// Serde needs the field's own type from a default.
#[expect(clippy::unnecessary_wraps, reason = "a missing key means 64, while null means the whole head")]
fn default_rotary_dim() -> Option<usize> {
    Some(Config::default().rotary_dim)
}

#[expect(clippy::unnecessary_wraps, reason = "a missing key means GPT-J's end of text, while null means none")]
fn default_eos_token_id() -> Option<TokenIds> {
    Some(TokenIds::One(END_OF_TEXT))
}

#[expect(clippy::unnecessary_wraps, reason = "a missing key means GPT-J's end of text, while null means none")]
fn default_bos_token_id() -> Option<u32> {
    Some(END_OF_TEXT)
}

/// The shares of CodeGen's q, v and k, as in transformers; and, as in CTranslate2, those of forks whose `head_dim` is
/// one of these.
const CODEGEN_SHARES: usize = 4;
const CODEGEN_FORK_SHARES: usize = 8;
const CODEGEN_FORK_HEADS: [u64; 2] = [128, 256];

/// The names of GPT-J's activation function.
const ACTIVATIONS: [&str; 3] = ["gelu_new", "gelu_fast", "gelu_pytorch_tanh"];

impl File {
    fn architecture(&self) -> Result<Architecture, String> {
        let is = |model_type: &str, class: &str| match (&self.model_type, &self.architectures) {
            (Some(kind), _) => kind == model_type,
            (None, Some(architectures)) => architectures.iter().any(|name| name.starts_with(class)),
            (None, None) => false,
        };
        if is("gptj", "GPTJ") {
            Ok(Architecture::GptJ)
        } else if is("codegen", "CodeGen") {
            let head_dim = self.head_dim.as_ref().and_then(Value::as_u64);
            let is_fork = head_dim.is_some_and(|head_dim| CODEGEN_FORK_HEADS.contains(&head_dim));
            Ok(Architecture::CodeGen { shares: if is_fork { CODEGEN_FORK_SHARES } else { CODEGEN_SHARES } })
        } else {
            let kind = shown(self.model_type.as_deref().unwrap_or("missing"));
            Err(format!("not a GPT-J or CodeGen model: model_type is {kind}; it must be gptj or codegen"))
        }
    }

    /// The first class that is one of GPT-J's; a language model if there is none.
    fn class(&self) -> Class {
        let classes = [Class::Model, Class::CausalLm, Class::SequenceClassification, Class::QuestionAnswering];
        let class = |name: &String| {
            let suffix = ["GPTJ", "CodeGen"].into_iter().find_map(|architecture| name.strip_prefix(architecture))?;
            classes.into_iter().find(|class| class.suffix() == suffix)
        };
        self.architectures.iter().flatten().find_map(class).unwrap_or(Class::CausalLm)
    }

    fn labels(&self) -> Result<Vec<String>, String> {
        if let Some(id2label) = &self.id2label {
            let id2label: BTreeMap<usize, Value> = BTreeMap::deserialize(id2label)
                .map_err(|error| format!("id2label is not an object of labels by id: {error}"))?;
            let name = |label: &Value| label.as_str().map_or_else(|| label.to_string(), str::to_owned);
            return match id2label.keys().zip(0..).find(|&(&id, index)| id != index) {
                None => Ok(id2label.values().map(name).collect()),
                Some((id, index)) => Err(format!("id2label has a label {id} but none of id {index}")),
            };
        }
        match self.num_labels {
            Some(count) if count > ABSURD => Err(format!("num_labels is {count}; it must be at most {ABSURD}")),
            count => Ok(numbered_labels(count.unwrap_or(2))),
        }
    }

    fn config(self) -> Result<Config, String> {
        let architecture = self.architecture()?;
        if self.rotary == Some(false) {
            return Err("rotary is false; GPT-J and CodeGen have rotary position embeddings".to_owned());
        }
        let activation = self.activation_function.as_deref().unwrap_or(ACTIVATIONS[0]);
        if !ACTIVATIONS.contains(&activation) {
            let activation = shown(activation);
            return Err(format!("activation_function is {activation}; that of GPT-J and CodeGen is gelu_new"));
        }
        let (default, class) = (Config::default(), self.class());
        let n_embd = self.n_embd.or(self.hidden_size).unwrap_or(default.n_embd);
        let n_head = self.n_head.or(self.num_attention_heads).unwrap_or(default.n_head);
        let n_positions = self.n_positions.or(self.max_position_embeddings).or(self.n_ctx);
        Ok(Config {
            architecture,
            class,
            vocab_size: self.vocab_size.unwrap_or(default.vocab_size),
            n_positions: n_positions.unwrap_or(default.n_positions),
            n_embd,
            n_layer: self.n_layer.or(self.num_hidden_layers).unwrap_or(default.n_layer),
            n_head,
            rotary_dim: self.rotary_dim.unwrap_or(n_embd.checked_div(n_head).unwrap_or(0)),
            n_inner: self.n_inner.unwrap_or(Config::usual_inner(n_embd)),
            layer_norm_epsilon: self.layer_norm_epsilon.map_or(default.layer_norm_epsilon, |epsilon| epsilon as f32),
            tie_word_embeddings: self.tie_word_embeddings,
            labels: match self.labels() {
                // Other classes ignore bad labels.
                Err(_) if class != Class::SequenceClassification => Vec::new(),
                labels => labels?,
            },
            problem_type: self.problem_type,
            bos_token_id: self.bos_token_id,
            // Some files say -1 for none.
            pad_token_id: self.pad_token_id.and_then(|id| u32::try_from(id).ok()),
            eos_token_ids: match self.eos_token_id {
                Some(TokenIds::One(id)) => vec![id],
                Some(TokenIds::Many(ids)) => ids,
                None => Vec::new(),
            },
        })
    }
}

impl Config {
    /// Reads and checks the text of a `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Config`] if it is not JSON, not a GPT-J or CodeGen, or impossible.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let mut json = serde_json::Deserializer::from_str(text);
        // Adds the key to serde's message, which has only the line.
        let file: File =
            serde_path_to_error::deserialize(&mut json).map_err(|error| Error::config(path, error.to_string()))?;
        json.end().map_err(|error| Error::config(path, error.to_string()))?;
        file.config().map_err(|reason| Error::config(path, reason))?.checked(path)
    }

    /// The contents of its `config.json`, with the keys of Hugging Face's `GPTJConfig`.
    pub fn to_json(&self) -> Value {
        let end_of_text = match self.eos_token_ids.as_slice() {
            [] => Value::Null,
            [id] => (*id).into(),
            ids => ids.into(),
        };
        // The shortest decimal that gives the same f32; converting it to f64 would add digits.
        let epsilon: f64 = self.layer_norm_epsilon.to_string().parse().unwrap_or(self.layer_norm_epsilon.into());
        let mut json = json!({
            "model_type": "gptj",
            "architectures": [self.class.to_string()],
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
            "bos_token_id": self.bos_token_id,
            "eos_token_id": end_of_text,
            "pad_token_id": self.pad_token_id,
        });
        if self.class == Class::SequenceClassification {
            let labels = || self.labels.iter().enumerate();
            json["id2label"] = labels().map(|(id, label)| (id.to_string(), Value::from(label.as_str()))).collect();
            json["label2id"] = labels().map(|(id, label)| (label.clone(), Value::from(id))).collect();
            json["problem_type"] = json!(self.problem_type);
        }
        json
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
    fn null_means_derived_and_unknown_keys_are_ignored() {
        let config = parse(
            r#"{"architectures": ["GPTJForCausalLM"], "n_embd": 64, "n_head": 4, "n_ctx": 128, "rotary_dim": null,
                "n_inner": null, "summary_type": "cls_index", "intermediate_size": 37, "hidden_size": 64}"#,
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
    fn the_class_is_that_of_the_architecture() {
        for class in [Class::Model, Class::CausalLm, Class::SequenceClassification, Class::QuestionAnswering] {
            let text = format!(r#"{{"architectures": ["Other", "{class}"]}}"#);
            assert_eq!(parse(&text).expect("a GPT-J").class, class);
        }
        // The first that is a class of GPT-J; an equal suffix does not suffice.
        for (architectures, class) in [
            (r#""GPTJForCausalLM", "GPTJModel""#, Class::CausalLm),
            (r#""GPTRewardModel", "GPTJForQuestionAnswering""#, Class::QuestionAnswering),
            (r#""GPT2LMHeadModel""#, Class::CausalLm),
        ] {
            let text = format!(r#"{{"model_type": "gptj", "architectures": [{architectures}]}}"#);
            assert_eq!(parse(&text).expect("a GPT-J").class, class, "{architectures}");
        }
        let codegen = parse(r#"{"model_type": "codegen", "architectures": ["CodeGenModel"]}"#).expect("a CodeGen");
        assert_eq!(codegen.class, Class::Model);
    }

    #[test]
    fn labels_are_named_or_numbered() {
        let labels = |keys: &str| {
            let class = r#""architectures": ["GPTJForSequenceClassification"]"#;
            parse(&format!(r#"{{"model_type": "gptj", {class}, {keys}}}"#)).map(|config| config.labels)
        };
        let other =
            parse(r#"{"model_type": "gptj", "id2label": {"1": "x"}}"#).expect("a language model ignores labels");
        assert_eq!(other.labels, Vec::<String>::new());
        assert_eq!(labels(r#""id2label": {"0": 3}"#).expect("a label"), ["3"]);
        let named = labels(r#""id2label": {"1": "no", "0": "yes", "2": "maybe"}, "num_labels": 7"#);
        assert_eq!(named.expect("three labels"), ["yes", "no", "maybe"]);
        assert_eq!(labels(r#""num_labels": 3"#).expect("three labels"), ["LABEL_0", "LABEL_1", "LABEL_2"]);
        assert_eq!(labels(r#""pad_token_id": -1"#).expect("two labels"), ["LABEL_0", "LABEL_1"]);
        for (keys, words) in [
            (r#""id2label": {"0": "a", "2": "b"}"#, "id2label has a label 2 but none of id 1"),
            (r#""num_labels": 99999999999"#, "num_labels is 99999999999"),
            (r#""id2label": {}"#, "id2label names no label"),
            (r#""id2label": [1]"#, "id2label is not an object"),
            (r#""problem_type": "guessing""#, "problem_type"),
        ] {
            let message = labels(keys).expect_err(keys).to_string();
            assert!(message.contains(words), "{keys}: {message}");
        }
    }

    #[test]
    fn json_round_trips() {
        let small = Config { tie_word_embeddings: true, layer_norm_epsilon: 0.01, ..Config::default() };
        let many = Config { eos_token_ids: vec![1, 2], rotary_dim: 256, n_inner: 77, ..Config::default() };
        let none = Config { eos_token_ids: Vec::new(), ..Config::default() };
        let labels = vec!["yes".to_owned(), "no".to_owned(), "yes".to_owned()];
        let problem_type = Some(ProblemType::MultiLabelClassification);
        let class = Class::SequenceClassification;
        let classes = Config { class, labels, problem_type, pad_token_id: Some(3), ..Config::default() };
        let bare = Config { class: Class::Model, bos_token_id: Some(1), ..Config::default() };
        for config in [Config::default(), small, many, none, classes, bare] {
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
