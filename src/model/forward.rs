//! The forward pass. If you read one file, read this one.
//!
//! GPT-J is a stack of identical blocks over a residual stream `x`. Unlike in most transformers, a block's two
//! branches, attention and MLP, run in parallel: both read the same normed input, and both outputs are added to `x`:
//!
//! ```text
//! x  ──┬── ln_1 ──┬── q, k, v ── rotary ── attention ── out_proj ──┐
//!      │          └── fc_in ── gelu ── fc_out ────────────────────── + ──  x
//!      └───────────────────────────────────────────────────────────┘
//! ```
//!
//! The branches share input and output, so their first matrices are fused into one, and so are their last: a block is
//! five launches. The pass is recorded as plans, one for the embedding, one per block, one for the head; a step writes
//! its rows to the GPU and replays them. Few rows and many need different kernels, so the same functions record the
//! pass once per [`KernelVariant`](crate::kernels::KernelVariant), when a step first needs it.
//!
//! # Easy to get wrong
//! 1. Rotary rotates neighbouring pairs (2i, 2i + 1), and only in the first `rotary_dim` dimensions of a head.
//! 2. There is one layer norm per block. The MLP reads `ln_1(x)`, not `x + attention`.
//! 3. The four projections of attention have no bias; `fc_in`, `fc_out` and `lm_head` have one.
//! 4. `lm_head` is not tied to `wte` (unless the configuration says so).
//! 5. Scores are scaled by 1 / sqrt(head_dim) and stay f32 up to the weighted sum of values, as in Hugging Face's code.
//! 6. The cache holds keys after rotation.
//! 7. GPT-J-6B's vocabulary has 143 rows that no text encodes to (`<|extratoken_1|>` and so on). They have logits and
//!    take part in sampling like the others.

use crate::gpu::Plan;
use crate::kernels::Kernels;
use crate::kv_cache::{KvCache, LayerCache};
use crate::model::scratch::Scratch;
use crate::weights::{Block, Weights};

/// The recorded forward pass from the rows' tokens to the end of the residual stream.
pub(super) struct Body {
    pub(super) embedding: Plan,
    pub(super) blocks: Vec<Plan>,
}

/// Records one block: `x += attention(ln_1(x)) + mlp(ln_1(x))`.
fn record_block(k: &Kernels, s: &Scratch, block: &Block, cache: LayerCache<'_>) -> Plan {
    let mut plan = Plan::default();
    // One norm for both branches.
    plan.run(k.layer_norm(&s.x, &block.ln_1, &s.normed));
    // q (rotated) and hidden = gelu(fc_in) go into the activations, k (rotated) and v into the cache.
    plan.run(k.block_in(&s.normed, &s.step, &block.block_in, &s.angles, &s.activations, cache));
    // attended = softmax(q · keys / sqrt(head_dim)) · values; q and attended are in the activations.
    plan.run(k.attend(&s.step, &s.activations, cache, &s.partial_out, &s.partial_max_sum));
    // x += out_proj(attended) + fc_out(hidden), as one matrix.
    plan.run(k.block_out(&s.activations, &s.step, &block.block_out, &s.x));
    plan
}

/// Records the pass up to the end of the residual stream.
pub(super) fn record_body(k: &Kernels, s: &Scratch, weights: &Weights, cache: &KvCache) -> Body {
    let mut embedding = Plan::default();
    embedding.run(k.token_embedding(&s.tokens, &weights.wte, &s.x));
    let blocks = weights.blocks.iter().enumerate();
    let blocks = blocks.map(|(layer, block)| record_block(k, s, block, cache.layer(layer))).collect();
    Body { embedding, blocks }
}

/// Records the final norm and the head, for the rows whose logits are computed.
pub(super) fn record_head(k: &Kernels, s: &Scratch, weights: &Weights) -> Plan {
    let mut head = Plan::default();
    head.run(k.layer_norm_outputs(&s.x, &weights.ln_f, &s.ln_f, &s.outputs));
    if let Some(linear) = &weights.head {
        head.run(k.lm_head(&s.ln_f, &s.step, linear, &s.logits));
    }
    head
}
