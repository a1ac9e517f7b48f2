//! The kernels of attention, at any depth.

use gptj::Config;
use gptj::internals::gpu::{Dtype, Plan};
use gptj::internals::kernels::{Row, StepSize, most_splits, reference};
use gptj::internals::weights::BlockWidths;

use super::super::workbench::{Check, Layer, Work, Workbench, copies, elements, random, sample};
use super::{Case, capacity, nothing, plan, shape_name};

/// One of the kernels of attention. The two for few rows are checked by their joint result.
pub(super) fn attention(config: &Config, kernel: &'static str, n_rows: usize, positions: usize) -> Case {
    let shape = shape_name([config.n_head, config.head_dim()]);
    let make = move |bench: &mut Workbench| {
        let config = bench.config.clone();
        let Config { n_embd, n_head, n_positions, .. } = config;
        // Many rows are a prompt; few are the last ones of a sequence each.
        let is_prompt = kernel == "flash_attention";
        let n_slots = if is_prompt { 1 } else { n_rows };
        let row = |i: usize| {
            let (slot, position) = if is_prompt { (0, positions - n_rows + i) } else { (i, positions - 1) };
            Row { slot: slot as u32, position: position as u32 }
        };
        let rows: Vec<Row> = (0..n_rows).map(row).collect();
        let step_tensor = bench.step(&rows, 0)?;
        let width = config.activation_width();
        let before = random(1, n_rows * width);
        let activations = bench.floats("activations", capacity(n_rows), width, &before)?;
        // A prompt's history is not split.
        let most_splits = if is_prompt { 1 } else { n_rows * n_head * most_splits(&config, n_positions) };
        let partial_out = bench.zeros("partial_out", 1, most_splits * config.head_width(), Dtype::F32)?;
        let partial_max_sum = bench.zeros("partial_max_sum", 1, 2 * most_splits, Dtype::F32)?;
        let attend = |bench: &Workbench, layer: &Layer| {
            let (kernels, cache) = (&bench.kernels, layer.cache());
            plan([if is_prompt {
                kernels.flash_attention(&step_tensor, &activations, cache)
            } else {
                kernels.attention(&step_tensor, &activations, cache, &partial_out, &partial_max_sum)
            }])
        };
        let merge = |bench: &Workbench| {
            plan([bench.kernels.merge_attention(&step_tensor, &partial_out, &partial_max_sum, &activations)])
        };

        let (layer, seed) = bench.filled_layer(n_slots)?;
        let sampled = sample(n_rows);
        let mut attended = Vec::new();
        for of_slot in sampled.chunk_by(|&a, &b| rows[a].slot == rows[b].slot) {
            let [keys, values] = layer.histories(seed, rows[of_slot[0]].slot, positions);
            let (mut q, mut rows_of_slot) = (Vec::new(), Vec::new());
            for &i in of_slot {
                q.extend_from_slice(&before[i * width + config.block_out_inputs()..][..n_embd]);
                rows_of_slot.push(Row { slot: 0, ..rows[i] });
            }
            attended.extend(reference::attention(&rows_of_slot, &q, &keys, &values));
        }
        let expected = elements(&attended, &sampled, &sample(n_embd));

        let step = StepSize { positions: positions as u32, ..nothing(n_rows).step };
        let vectors = (n_rows * n_embd) as u64 * 4;
        let work = if kernel == "merge_attention" {
            let bytes = vectors * (1 + positions.div_ceil(bench.kernels.split()) as u64);
            Work { prepare: attend(bench, &layer), plans: vec![merge(bench)], step, bytes, ..nothing(n_rows) }
        } else {
            let history = (n_slots * positions * n_embd) as u64 * 4;
            let mut plans = vec![attend(bench, &layer)];
            for _ in 1..copies(history).min(bench.layers_at_once(n_slots)) {
                let (layer, _) = bench.filled_layer(n_slots)?;
                plans.push(attend(bench, &layer));
            }
            let finish = if is_prompt { Plan::default() } else { merge(bench) };
            let seen: u64 = rows.iter().map(|row| u64::from(row.position) + 1).sum();
            let (bytes, flops) = (history + 2 * vectors, 4 * n_embd as u64 * seen);
            Work { plans, finish, step, bytes, flops, ..nothing(n_rows) }
        };
        // Scores of magnitude 1 and values below 1, as in the sums of matmuls.
        Ok(Work { checks: vec![Check { written: activations.into(), expected, tolerance: 1e-4 }], ..work })
    };
    Case { positions: Some(positions), ..Case::new(kernel, shape, n_rows, make) }
}

/// The weights of attention, for the last rows of a prompt.
pub(super) fn attention_weights(config: &Config, n_rows: usize, positions: usize) -> Case {
    let make = move |bench: &mut Workbench| {
        let config = bench.config.clone();
        let Config { n_embd, n_head, .. } = config;
        let rows: Vec<Row> = (positions - n_rows..positions).map(|i| Row { slot: 0, position: i as u32 }).collect();
        let step_tensor = bench.step(&rows, 0)?;
        let width = config.activation_width();
        let before = random(1, n_rows * width);
        let activations = bench.floats("activations", capacity(n_rows), width, &before)?;
        let (layer, seed) = bench.filled_layer(1)?;
        let capacity_of_slot = layer.capacity();
        let weights = bench.zeros("weights", 1, n_rows * n_head * capacity_of_slot, Dtype::F32)?;
        let launch = bench.kernels.attention_weights(&step_tensor, &activations, layer.cache(), &weights);

        let [keys, _] = layer.histories(seed, 0, positions);
        let mut q = Vec::new();
        for row in before.chunks_exact(width) {
            q.extend_from_slice(&row[config.block_out_inputs()..][..n_embd]);
        }
        let of_heads = reference::attention_weights(&rows, &q, &keys);
        let mut expected = Vec::new();
        for head in sample(of_heads.len()) {
            for position in sample(of_heads[head].len()) {
                expected.push((0, head * capacity_of_slot + position, of_heads[head][position]));
            }
        }
        let seen: u64 = rows.iter().map(|row| u64::from(row.position) + 1).sum();
        let bytes = (positions * n_embd) as u64 * 2 + (n_rows * n_embd) as u64 * 4 + seen * n_head as u64 * 4;
        // Weights are at most 1.
        let checks = vec![Check { written: weights.into(), expected, tolerance: 1e-4 }];
        Ok(Work { plans: vec![plan([launch])], bytes, flops: 2 * n_embd as u64 * seen, checks, ..nothing(n_rows) })
    };
    let shape = shape_name([config.n_head, config.head_dim()]);
    Case { positions: Some(positions), ..Case::new("attention_weights", shape, n_rows, make) }
}
