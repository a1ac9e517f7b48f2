//! The tensors of a GPT-J and their names in checkpoint files.

use crate::config::{Class, Config};

/// A tensor of a model, independent of its name in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorName {
    /// The token embedding, (vocab_size, n_embd).
    Wte,
    /// A tensor of the block with this index.
    Block(usize, BlockTensor),
    /// The gain of the final layer norm, (n_embd).
    LnFWeight,
    /// The bias of the final layer norm, (n_embd).
    LnFBias,
    /// The classifier over the vocabulary, (vocab_size, n_embd).
    LmHeadWeight,
    /// The bias of that classifier, (vocab_size).
    LmHeadBias,
    /// The classifier over labels, (labels, n_embd). It has no bias.
    Score,
    /// The head for an answer's start and end, (2, n_embd).
    QaOutputsWeight,
    /// Its bias, (2).
    QaOutputsBias,
}

/// A tensor of a block. GPT-J's attention has no biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockTensor {
    /// The gain of the block's layer norm, (n_embd).
    Ln1Weight,
    /// The bias of the block's layer norm, (n_embd).
    Ln1Bias,
    /// (n_embd, n_embd)
    QProj,
    /// (n_embd, n_embd)
    KProj,
    /// (n_embd, n_embd)
    VProj,
    /// (n_embd, n_embd)
    OutProj,
    /// (n_inner, n_embd)
    FcInWeight,
    /// (n_inner)
    FcInBias,
    /// (n_embd, n_inner)
    FcOutWeight,
    /// (n_embd)
    FcOutBias,
}

impl BlockTensor {
    const ALL: [Self; 10] = [
        Self::Ln1Weight,
        Self::Ln1Bias,
        Self::QProj,
        Self::KProj,
        Self::VProj,
        Self::OutProj,
        Self::FcInWeight,
        Self::FcInBias,
        Self::FcOutWeight,
        Self::FcOutBias,
    ];

    fn in_file(self) -> &'static str {
        match self {
            Self::Ln1Weight => "ln_1.weight",
            Self::Ln1Bias => "ln_1.bias",
            Self::QProj => "attn.q_proj.weight",
            Self::KProj => "attn.k_proj.weight",
            Self::VProj => "attn.v_proj.weight",
            Self::OutProj => "attn.out_proj.weight",
            Self::FcInWeight => "mlp.fc_in.weight",
            Self::FcInBias => "mlp.fc_in.bias",
            Self::FcOutWeight => "mlp.fc_out.weight",
            Self::FcOutBias => "mlp.fc_out.bias",
        }
    }

    /// The name of a weight's module within its block.
    pub(crate) fn module(self) -> &'static str {
        let name = self.in_file();
        name.rsplit_once('.').map_or(name, |(module, _)| module)
    }
}

impl TensorName {
    /// Every tensor of a model, in the order of the forward pass. Older files' `attn.bias` and `attn.masked_bias` are
    /// not parameters and not among them.
    pub fn all(config: &Config) -> Vec<Self> {
        let blocks = (0..config.n_layer).flat_map(|layer| BlockTensor::ALL.map(|tensor| Self::Block(layer, tensor)));
        [Self::Wte]
            .into_iter()
            .chain(blocks)
            .chain([Self::LnFWeight, Self::LnFBias])
            // A tied lm_head has the embedding's weights and its own bias.
            .chain(Self::head_weight(config).filter(|&weight| weight != Self::Wte))
            .chain(Self::head_bias(config.class))
            .collect()
    }

    /// The weights of a model's head, if it has one; if tied, the embedding's.
    pub fn head_weight(config: &Config) -> Option<Self> {
        match config.class {
            Class::Model => None,
            Class::CausalLm if config.tie_word_embeddings => Some(Self::Wte),
            Class::CausalLm => Some(Self::LmHeadWeight),
            Class::SequenceClassification => Some(Self::Score),
            Class::QuestionAnswering => Some(Self::QaOutputsWeight),
        }
    }

    /// The bias of a model's head, if it has one.
    pub fn head_bias(class: Class) -> Option<Self> {
        match class {
            Class::Model | Class::SequenceClassification => None,
            Class::CausalLm => Some(Self::LmHeadBias),
            Class::QuestionAnswering => Some(Self::QaOutputsBias),
        }
    }

    /// Whether it belongs to a head, whose tensors have no prefix.
    pub(crate) fn is_of_head(self) -> bool {
        !matches!(self, Self::Wte | Self::Block(..) | Self::LnFWeight | Self::LnFBias)
    }

    pub(crate) fn in_file(self, prefix: &str) -> String {
        match self {
            Self::Wte => format!("{prefix}wte.weight"),
            Self::Block(layer, tensor) => format!("{prefix}h.{layer}.{}", tensor.in_file()),
            Self::LnFWeight => format!("{prefix}ln_f.weight"),
            Self::LnFBias => format!("{prefix}ln_f.bias"),
            Self::LmHeadWeight => "lm_head.weight".to_owned(),
            Self::LmHeadBias => "lm_head.bias".to_owned(),
            Self::Score => "score.weight".to_owned(),
            Self::QaOutputsWeight => "qa_outputs.weight".to_owned(),
            Self::QaOutputsBias => "qa_outputs.bias".to_owned(),
        }
    }

    /// Its shape in a model of this configuration.
    pub fn shape(self, config: &Config) -> Vec<usize> {
        let Config { vocab_size, n_embd, n_inner, .. } = *config;
        match self {
            Self::Wte | Self::LmHeadWeight => vec![vocab_size, n_embd],
            Self::LmHeadBias => vec![vocab_size],
            Self::Score => vec![config.labels.len(), n_embd],
            Self::QaOutputsWeight => vec![2, n_embd],
            Self::QaOutputsBias => vec![2],
            Self::LnFWeight | Self::LnFBias => vec![n_embd],
            Self::Block(_, tensor) => match tensor {
                BlockTensor::QProj | BlockTensor::KProj | BlockTensor::VProj | BlockTensor::OutProj => {
                    vec![n_embd, n_embd]
                }
                BlockTensor::FcInWeight => vec![n_inner, n_embd],
                BlockTensor::FcInBias => vec![n_inner],
                BlockTensor::FcOutWeight => vec![n_embd, n_inner],
                BlockTensor::Ln1Weight | BlockTensor::Ln1Bias | BlockTensor::FcOutBias => vec![n_embd],
            },
        }
    }
}

/// Whether a tensor is a buffer rather than a parameter: older files' causal mask and its value, and tables that follow
/// from the configuration.
pub(crate) fn is_buffer(name: &str) -> bool {
    [".attn.bias", ".attn.masked_bias", ".attn.embed_positions", ".attn.causal_mask"]
        .iter()
        .any(|suffix| name.ends_with(suffix))
}
