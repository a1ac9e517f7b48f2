//! The kernels as plain loops on the CPU, in f32: the oracle that the GPU's results are compared with.
//!
//! Not a backend and never a fallback. Each function has the name of its kernel and works on dense rows without
//! padding; sums run in index order and in f64, so that the reference's own rounding is negligible.

use half::f16;

use crate::kernels::Row;
use gptj_checkpoint::Config;

/// `x[row] = wte[tokens[row]]`; `wte`: (vocab_size, n_embd).
pub fn token_embedding(tokens: &[u32], wte: &[f32], n_embd: usize) -> Vec<f32> {
    tokens.iter().flat_map(|&token| &wte[token as usize * n_embd..][..n_embd]).copied().collect()
}

/// `normed[row] = (x[row] - mean) / sqrt(variance + epsilon) * gain + bias`; `x`: (rows, gain.len()).
pub fn layer_norm(x: &[f32], gain: &[f32], bias: &[f32], epsilon: f32) -> Vec<f32> {
    let width = gain.len();
    let mut normed = Vec::with_capacity(x.len());
    for row in x.chunks_exact(width) {
        let mean = row.iter().map(|&value| f64::from(value)).sum::<f64>() / width as f64;
        let variance = row.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / width as f64;
        let scale = 1.0 / (variance + f64::from(epsilon)).sqrt();
        for ((&value, &gain), &bias) in row.iter().zip(gain).zip(bias) {
            normed.push(((f64::from(value) - mean) * scale * f64::from(gain) + f64::from(bias)) as f32);
        }
    }
    normed
}

/// [`layer_norm`] of the rows that `outputs` names, packed together.
pub fn layer_norm_outputs(x: &[f32], gain: &[f32], bias: &[f32], epsilon: f32, outputs: &[u32]) -> Vec<f32> {
    let width = gain.len();
    let rows: Vec<f32> = outputs.iter().flat_map(|&output| &x[output as usize * width..][..width]).copied().collect();
    layer_norm(&rows, gain, bias, epsilon)
}

/// `output[row] = weight · input[row] + bias`; `input`: (rows, width), `weight`: (out, width).
pub fn linear(input: &[f32], weight: &[f32], bias: Option<&[f32]>, width: usize) -> Vec<f32> {
    let mut output = Vec::new();
    for row in input.chunks_exact(width) {
        for (feature, weights) in weight.chunks_exact(width).enumerate() {
            let sum: f64 = row.iter().zip(weights).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
            output.push((sum + bias.map_or(0.0, |bias| f64::from(bias[feature]))) as f32);
        }
    }
    output
}

/// The logits of rows that ln_f has normed: [`linear`].
pub fn lm_head(ln_f: &[f32], weight: &[f32], bias: &[f32], n_embd: usize) -> Vec<f32> {
    linear(ln_f, weight, Some(bias), n_embd)
}

/// A block's parameters, dense, in the checkpoint's layout.
#[derive(Debug, Clone)]
pub struct BlockWeights {
    /// q_proj, k_proj and v_proj, each (n_embd, n_embd).
    pub qkv: [Vec<f32>; 3],
    /// (n_embd, n_embd)
    pub out_proj: Vec<f32>,
    /// (n_inner, n_embd)
    pub fc_in: Vec<f32>,
    /// (n_inner)
    pub fc_in_bias: Vec<f32>,
    /// (n_embd, n_inner)
    pub fc_out: Vec<f32>,
    /// (n_embd)
    pub fc_out_bias: Vec<f32>,
}

/// q and the MLP's hidden layer of `normed`; the rows' keys and values go to the caches.
pub fn block_in(
    rows: &[Row],
    normed: &[f32],
    block: &BlockWeights,
    angles: &[[f32; 2]],
    config: &Config,
    [keys, values]: [&mut LayerCache; 2],
) -> (Vec<f32>, Vec<f32>) {
    let [mut q, mut k, v] = block.qkv.each_ref().map(|weight| linear(normed, weight, None, config.n_embd));
    rotary(rows, angles, &mut q, config);
    rotary(rows, angles, &mut k, config);
    append_cache(rows, &k, keys);
    append_cache(rows, &v, values);
    let hidden = linear(normed, &block.fc_in, Some(&block.fc_in_bias), config.n_embd);
    (q, hidden.into_iter().map(gelu).collect())
}

/// `x[row] += out_proj · attended[row] + fc_out · hidden[row] + bias`
pub fn block_out(x: &mut [f32], attended: &[f32], hidden: &[f32], block: &BlockWeights, config: &Config) {
    let attention = linear(attended, &block.out_proj, None, config.n_embd);
    let mlp = linear(hidden, &block.fc_out, Some(&block.fc_out_bias), config.n_inner);
    for ((x, attention), mlp) in x.iter_mut().zip(attention).zip(mlp) {
        *x = (f64::from(*x) + f64::from(attention) + f64::from(mlp)) as f32;
    }
}

/// `gelu_new`: the tanh form.
pub fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
    (0.5 * x * (1.0 + inner.tanh())) as f32
}

/// Rotates the pairs (2i, 2i + 1) of each head's first `rotary_dim` dimensions; `vectors`: (rows, n_embd), in place.
pub fn rotary(rows: &[Row], angles: &[[f32; 2]], vectors: &mut [f32], config: &Config) {
    let n_pairs = config.rotary_dim / 2;
    for (row, vector) in rows.iter().zip(vectors.chunks_exact_mut(config.n_embd)) {
        let angles = &angles[row.position as usize * n_pairs..][..n_pairs];
        for head in vector.chunks_exact_mut(config.head_dim()) {
            for (pair, [cosine, sine]) in head.chunks_exact_mut(2).zip(angles) {
                let [even, odd] = [pair[0], pair[1]];
                pair[0] = even * cosine - odd * sine;
                pair[1] = odd * cosine + even * sine;
            }
        }
    }
}

/// Keys or values of one block: (slots, n_head, n_positions, head_dim), rounded to f16 as the GPU's are.
pub struct LayerCache {
    vectors: Vec<f32>,
    config: Config,
    n_positions: usize,
}

impl LayerCache {
    /// An empty cache.
    pub fn new(config: &Config, n_slots: usize, n_positions: usize) -> Self {
        let vectors = vec![0.0; n_slots * config.n_head * n_positions * config.head_dim()];
        Self { vectors, config: config.clone(), n_positions }
    }

    /// One head's vector of one position.
    pub fn vector(&self, slot: usize, head: usize, position: usize) -> &[f32] {
        &self.vectors[self.start(slot, head, position)..][..self.config.head_dim()]
    }

    /// All vectors.
    pub fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// All vectors, for filling the cache at once with numbers that f16 holds.
    pub fn vectors_mut(&mut self) -> &mut [f32] {
        &mut self.vectors
    }

    fn start(&self, slot: usize, head: usize, position: usize) -> usize {
        ((slot * self.config.n_head + head) * self.n_positions + position) * self.config.head_dim()
    }
}

/// `cache[slot, head, position] = vectors[row, head]`; `vectors`: (rows, n_embd).
pub fn append_cache(rows: &[Row], vectors: &[f32], cache: &mut LayerCache) {
    let head_dim = cache.config.head_dim();
    for (row, vector) in rows.iter().zip(vectors.chunks_exact(cache.config.n_embd)) {
        for (head, vector) in vector.chunks_exact(head_dim).enumerate() {
            let start = cache.start(row.slot as usize, head, row.position as usize);
            for (stored, &value) in cache.vectors[start..][..head_dim].iter_mut().zip(vector) {
                *stored = f16::from_f32(value.clamp(-65504.0, 65504.0)).to_f32();
            }
        }
    }
}

/// softmax(q · keys / sqrt(head_dim)) of one head over the positions up to the row's own.
fn weights(row: Row, head: usize, q: &[f32], keys: &LayerCache) -> Vec<f64> {
    let score = |position| {
        let key = keys.vector(row.slot as usize, head, position);
        let dot: f64 = q.iter().zip(key).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
        dot / (keys.config.head_dim() as f64).sqrt()
    };
    let scores: Vec<f64> = (0..=row.position as usize).map(score).collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
    scores.into_iter().map(|score| (score - largest).exp() / sum).collect()
}

/// softmax(q · keys / sqrt(head_dim)) for each row and head, one after another; `q`: (rows, n_embd).
pub fn attention_weights(rows: &[Row], q: &[f32], keys: &LayerCache) -> Vec<Vec<f32>> {
    let head_dim = keys.config.head_dim();
    let of_row = |(row, q): (&Row, &[f32])| {
        let row = *row;
        let of_head = |(head, q)| weights(row, head, q, keys).into_iter().map(|weight| weight as f32).collect();
        q.chunks_exact(head_dim).enumerate().map(of_head).collect::<Vec<Vec<f32>>>()
    };
    rows.iter().zip(q.chunks_exact(keys.config.n_embd)).flat_map(of_row).collect()
}

/// For each row and head: softmax(q · keys / sqrt(head_dim)) · values over the positions up to the row's own, as
/// `attention` and `merge_attention` compute it together, and `flash_attention` alone; `q`: (rows, n_embd).
pub fn attention(rows: &[Row], q: &[f32], keys: &LayerCache, values: &LayerCache) -> Vec<f32> {
    let config = &keys.config;
    let mut attended = Vec::with_capacity(q.len());
    for (row, q) in rows.iter().zip(q.chunks_exact(config.n_embd)) {
        for (head, q) in q.chunks_exact(config.head_dim()).enumerate() {
            let mut out = vec![0.0; config.head_dim()];
            for (position, weight) in weights(*row, head, q, keys).into_iter().enumerate() {
                let value = values.vector(row.slot as usize, head, position);
                for (out, &value) in out.iter_mut().zip(value) {
                    *out += weight * f64::from(value);
                }
            }
            attended.extend(out.into_iter().map(|value| value as f32));
        }
    }
    attended
}

/// The first index of the largest logit of each output; `logits`: (outputs, vocab_size).
pub fn argmax(logits: &[f32], vocab_size: usize) -> Vec<u32> {
    let largest = |logits: &[f32]| {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        logits.iter().position(|&logit| logit == largest).unwrap_or_default() as u32
    };
    logits.chunks_exact(vocab_size).map(largest).collect()
}

/// `weight += b · a`, rounded to f16; `weight`: (features, inputs), `b`: (features, rank), `a`: (rank, inputs).
pub fn merge_lora(weight: &mut [f32], b: &[f32], a: &[f32], rank: usize) {
    let inputs = a.len() / rank;
    for (row, b) in weight.chunks_exact_mut(inputs).zip(b.chunks_exact(rank)) {
        for (input, weight) in row.iter_mut().enumerate() {
            let sum: f64 = (0..rank).map(|k| f64::from(b[k]) * f64::from(a[k * inputs + input])).sum();
            *weight = f16::from_f64(f64::from(*weight) + sum).to_f32();
        }
    }
}

/// Elements of a tensor of any width: element `row * width + i` is `values[row, i]` of `fill_random`.
pub fn fill_random(seed: u32, scale: f32, elements: std::ops::Range<usize>) -> Vec<f32> {
    let pcg = |number: u32| {
        let state = number.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
        (word >> 22) ^ word
    };
    let start = pcg(seed);
    let value = |element: usize| {
        let bits = pcg(start.wrapping_add(element as u32));
        f16::from_f32(((bits >> 21) as f32 - 1024.0) / 1024.0 * scale).to_f32()
    };
    elements.map(value).collect()
}

/// One lane's four sums of `fma_ceiling` after `steps` steps.
pub fn fma_ceiling(lane: usize, steps: u32, factor: f32, term: f32) -> [f32; 4] {
    [0.0, 1.0, 2.0, 3.0].map(|offset| {
        let start = (lane % 64) as f64 / 64.0 + offset;
        let advance = |sum: f64, _| sum * f64::from(factor) + f64::from(term);
        ((0..steps).fold(start, advance) + (0..steps).fold(-start, advance)) as f32
    })
}
