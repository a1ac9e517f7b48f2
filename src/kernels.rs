//! The vocabulary of the forward pass: one launcher a kernel.
//!
//! A launcher says what its kernel computes on tensors of which shapes, and alone knows the kernel's constants,
//! bindings and grid. It launches nothing: it returns dispatches, which a [`Plan`](crate::gpu::Plan) replays at every
//! step. Kernels work on rows; `rows` in a shape is how many a step has, up to the tensor's own number. Shapes that do
//! not fit are a mistake of the caller and panic.

mod tools;

pub use tools::{FMA_STEPS, NEEDLE};

use crate::cache::Cache;
use crate::config::Config;
use crate::gpu::{
    Axis, Binding, Dispatch, Gpu, Import, Part, Product, Shader, Shaders, Subgroups, Tensor, Text, padded,
};
use crate::regime::{Geometry, Regime, attention_lanes};
use crate::weights::{LayerNorm, Linear, Matrix};

macro_rules! shaders {
    ($($name:ident: $entry_points:expr;)*) => {
        $(
            #[expect(non_upper_case_globals, reason = "a kernel has one name everywhere")]
            const $name: Shader = Shader {
                name: stringify!($name),
                text: include_str!(concat!("../shaders/", stringify!($name), ".wgsl")),
            };
        )*
        /// Every shader and its entry points, which are the kernels.
        pub const SHADERS: &[(Shader, &[&str])] = &[$(($name, $entry_points)),*];
    };
}

shaders! {
    embed: &["embed"];
    layer_norm: &["layer_norm", "layer_norm_outputs"];
    block_in: &["block_in"];
    attention: &["attention"];
    merge_attention: &["merge_attention"];
    flash_attention: &["flash_attention"];
    block_out: &["block_out"];
    lm_head: &["lm_head"];
    argmax: &["argmax"];
    attention_weights: &["attention_weights"];
    merge_lora: &["merge_lora"];
    fill_random: &["fill_random"];
    read_ceiling: &["read_ceiling"];
    fma_ceiling: &["fma_ceiling"];
}

macro_rules! shared {
    ($file:literal) => {
        include_str!(concat!("../shaders/shared/", $file, ".wgsl"))
    };
}

/// What shaders may import.
pub const IMPORTS: &[Import] = &[
    Import { name: "activations", text: Text::Always(shared!("activations")) },
    Import { name: "cache", text: Text::Always(shared!("cache")) },
    Import {
        name: "chunk",
        text: Text::Product([
            shared!("chunk_packed"),
            shared!("chunk_packed"),
            shared!("chunk_native"),
            shared!("chunk_native"),
        ]),
    },
    Import { name: "gelu", text: Text::Always(shared!("gelu")) },
    Import { name: "half", text: Text::F16([shared!("half_native"), shared!("half_packed")]) },
    Import { name: "heads", text: Text::Always(shared!("heads")) },
    Import { name: "inputs", text: Text::SubgroupsOf8([shared!("inputs_broadcast"), shared!("inputs_loaded")]) },
    Import {
        name: "product",
        text: Text::Product([
            shared!("product_vector"),
            shared!("product_tile"),
            shared!("product_cooperative_16"),
            shared!("product_cooperative_8"),
        ]),
    },
    Import { name: "product_cooperative", text: Text::Always(shared!("product_cooperative")) },
    Import { name: "reduce", text: Text::Subgroups([shared!("reduce_subgroups"), shared!("reduce_workgroup")]) },
    Import { name: "rotary", text: Text::Always(shared!("rotary")) },
    Import { name: "step", text: Text::Always(shared!("step")) },
    Import { name: "weights", text: Text::Always(shared!("weights_f16")) },
    Import { name: "widths", text: Text::Always(shared!("widths")) },
];

/// One token's work in a step; `shaders/shared/step.wgsl` has the same struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Row {
    /// The sequence it belongs to.
    pub slot: u32,
    /// Its place in the sequence, from 0.
    pub position: u32,
}

/// What precedes the rows of a step; `shaders/shared/step.wgsl` has the same fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct StepHeader {
    /// How many rows the step has.
    pub n_rows: u32,
    /// How many of them want their logits.
    pub n_outputs: u32,
}

/// Lanes of the kernels that take a row or an output a workgroup.
const ROW_LANES: u32 = 256;

/// Lanes of the kernels that many workgroups of run at once.
const LANES: u32 = 64;

/// The launchers, for one model on one GPU.
#[derive(Clone)]
pub struct Kernels {
    shaders: Shaders,
    config: Config,
    n_positions: usize,
    geometry: Geometry,
    regime: Regime,
}

impl Kernels {
    /// For a model of this configuration whose cache has room for `n_positions` positions a slot, with kernels of this
    /// geometry.
    pub fn new(gpu: &Gpu, config: &Config, n_positions: usize, mut geometry: Geometry) -> Self {
        if gpu.specialisation().subgroups == Subgroups::Of8 {
            // As `shaders/shared/inputs_broadcast.wgsl` has it.
            geometry.vector.lanes = 8;
        }
        let regime = geometry.regime(1);
        Self { shaders: Shaders::new(gpu, IMPORTS), config: config.clone(), n_positions, geometry, regime }
    }

    /// The same launchers for steps of another regime; compiled kernels are shared.
    #[must_use]
    pub fn in_regime(&self, regime: Regime) -> Self {
        Self { regime, ..self.clone() }
    }

    /// The geometry of the kernels.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn dispatch(
        &self,
        shader: Shader,
        entry_point: &'static str,
        constants: &[(&str, f64)],
        bindings: &[Binding<'_>],
        grid: [Axis; 3],
    ) -> Dispatch {
        Dispatch::new(&self.shaders, (shader, Product::Vector), entry_point, constants, bindings, grid)
    }

    /// `x[row] = wte[tokens[row]]`
    ///
    /// `tokens`: (rows) flat; `wte`: (vocab_size, n_embd) f16; `x`: (rows, n_embd).
    pub fn embed(&self, tokens: &Tensor, wte: &Tensor, x: &Tensor) -> Vec<Dispatch> {
        assert_eq!(wte.width(), x.width(), "embed copies rows of wte to x");
        let launch = |part: &Part| {
            let constants = [
                ("WG_SIZE", f64::from(ROW_LANES)),
                ("N_EMBD", x.width() as f64),
                ("FIRST_TOKEN", part.first_row as f64),
                ("N_TOKENS", part.rows as f64),
            ];
            let grid = [Axis::Rows(1), Axis::Fixed(1), Axis::Fixed(1)];
            self.dispatch(embed, "embed", &constants, &[tokens.into(), part.into(), x.into()], grid)
        };
        wte.parts().iter().map(launch).collect()
    }

    /// `normed[row] = (x[row] - mean) / sqrt(variance + epsilon) * gain + bias`
    ///
    /// `x`, `normed`: (rows, n_embd).
    pub fn layer_norm(&self, x: &Tensor, norm: &LayerNorm, normed: &Tensor) -> Vec<Dispatch> {
        assert_eq!(x.width(), normed.width(), "layer_norm keeps the width");
        let grid = [Axis::Rows(1), Axis::Fixed(1), Axis::Fixed(1)];
        let bindings = [x.into(), (&norm.gain).into(), (&norm.bias).into(), normed.into()];
        vec![self.dispatch(layer_norm, "layer_norm", &self.layer_norm_constants(x), &bindings, grid)]
    }

    /// The same for the rows whose logits are wanted, packed together: row `outputs[i]` of `x` becomes row `i`.
    ///
    /// `x`: (rows, n_embd); `outputs`: indices of rows; `normed`: (outputs, n_embd).
    pub fn layer_norm_outputs(&self, x: &Tensor, norm: &LayerNorm, normed: &Tensor, outputs: &Tensor) -> Vec<Dispatch> {
        assert_eq!(x.width(), normed.width(), "layer_norm_outputs keeps the width");
        let grid = [Axis::Outputs(1), Axis::Fixed(1), Axis::Fixed(1)];
        let bindings = [x.into(), (&norm.gain).into(), (&norm.bias).into(), normed.into(), outputs.into()];
        vec![self.dispatch(layer_norm, "layer_norm_outputs", &self.layer_norm_constants(x), &bindings, grid)]
    }

    fn layer_norm_constants(&self, x: &Tensor) -> [(&'static str, f64); 3] {
        let epsilon = f64::from(self.config.layer_norm_epsilon);
        [("WG_SIZE", f64::from(self.geometry.norm_lanes)), ("N_EMBD", x.width() as f64), ("EPS", epsilon)]
    }

    /// From the normed input to all that attention and the MLP's second matrix need:
    ///
    /// ```text
    /// q = rotate(q_proj · normed)   keys[position] = rotate(k_proj · normed)   values[position] = v_proj · normed
    /// hidden = gelu(fc_in · normed + bias)
    /// ```
    ///
    /// `normed`: (rows, n_embd); `step`: the rows; `matrix`: [`Block::block_in`](crate::weights::Block::block_in);
    /// `angles`: [`Config::rotary_angles`]; `activations`: (rows, [`Config::activation_width`]); `cache`: as in
    /// [`Cache::layer`].
    pub fn block_in(
        &self,
        [normed, step]: [&Tensor; 2],
        matrix: &Linear,
        angles: &Tensor,
        activations: &Tensor,
        cache: (&Cache, &Tensor),
    ) -> Vec<Dispatch> {
        assert_eq!(matrix.weight.features(), self.config.block_in_features(), "block_in gives q, k, v and hidden");
        let mut constants = self.activation_constants(activations).to_vec();
        constants.extend(cache_constants(cache.0));
        constants.push(("ROTARY_DIM", self.config.rotary_dim as f64));
        let rest = [step, &matrix.bias, angles, activations, cache.1];
        self.product((block_in, "block_in"), &constants, &matrix.weight, normed, &rest, Axis::Rows)
    }

    /// `x[row] += out_proj · attended[row] + fc_out · hidden[row] + bias`
    ///
    /// `activations`: (rows, [`Config::activation_width`]); `step`: the rows; `matrix`:
    /// [`Block::block_out`](crate::weights::Block::block_out); `x`: (rows, n_embd).
    pub fn block_out(&self, [activations, step]: [&Tensor; 2], matrix: &Linear, x: &Tensor) -> Vec<Dispatch> {
        assert_eq!(matrix.weight.inputs(), self.config.block_out_inputs(), "block_out takes attended and hidden");
        let constants = [("EMBD_QUADS", quads(x))];
        let rest = [step, &matrix.bias, x];
        self.product((block_out, "block_out"), &constants, &matrix.weight, activations, &rest, Axis::Rows)
    }

    /// `logits[output] = weight · ln_f[output] + bias`, for lm_head as for the heads of other classes
    ///
    /// `ln_f`: (outputs, n_embd); `step`: how many outputs; `logits`: (outputs, [`Config::head_features`]).
    pub fn lm_head(&self, [ln_f, step]: [&Tensor; 2], matrix: &Linear, logits: &Tensor) -> Vec<Dispatch> {
        assert_eq!(matrix.weight.features(), logits.width(), "lm_head gives a logit for each token or label");
        let constants = [("VOCAB_QUADS", quads(logits))];
        let rest = [step, &matrix.bias, logits];
        self.product((lm_head, "lm_head"), &constants, &matrix.weight, ln_f, &rest, Axis::Outputs)
    }

    /// The launches of one product: each sees one or two parts of the matrix, and the parts' features are its own.
    fn product(
        &self,
        (shader, kernel): (Shader, &'static str),
        constants: &[(&'static str, f64)],
        weight: &Matrix,
        input: &Tensor,
        rest: &[&Tensor],
        rows: impl Fn(u32) -> Axis,
    ) -> Vec<Dispatch> {
        let groups = weight.inputs().div_ceil(8);
        assert!(padded(input.width()) >= 8 * groups, "{} takes rows of at least its width", weight.name());
        let tile_rows = self.geometry.tile_rows(self.regime);
        assert!(input.rows().is_multiple_of(tile_rows), "{} has room for whole tiles of {tile_rows}", input.name());
        let launch = |parts: &[Part]| {
            let (first, second) = (&parts[0], parts.get(1));
            let n_panels = first.rows + second.map_or(0, |part| part.rows);
            let mut constants = constants.to_vec();
            constants.extend([
                ("IN_GROUPS", groups as f64),
                ("INPUT_QUADS", quads(input)),
                ("PANELS_0", first.rows as f64),
                ("PANELS_1", second.map_or(0.0, |part| part.rows as f64)),
                ("FIRST_PANEL", first.first_row as f64),
            ]);
            constants.extend(self.geometry.product_constants(self.regime, groups));
            let mut bindings = vec![first.into(), second.unwrap_or(first).into(), input.into()];
            bindings.extend(rest.iter().map(|&tensor| Binding::from(tensor)));
            let tile_panels = self.geometry.tile_panels(self.regime);
            let grid = [rows(tile_rows as u32), workgroups(n_panels, tile_panels), Axis::Fixed(1)];
            Dispatch::new(&self.shaders, (shader, self.regime.product), kernel, &constants, &bindings, grid)
        };
        weight.parts().chunks(2).map(launch).collect()
    }

    fn head_constants(&self) -> [(&'static str, f64); 2] {
        [("N_HEAD", self.config.n_head as f64), ("HEAD_DIM", self.config.head_dim() as f64)]
    }

    fn activation_constants(&self, activations: &Tensor) -> [(&'static str, f64); 3] {
        assert_eq!(activations.width(), self.config.activation_width(), "attended, hidden and q");
        let [n_head, head_dim] = self.head_constants();
        [n_head, head_dim, ("INNER_QUADS", (padded(self.config.n_inner) / 4) as f64)]
    }

    /// Attention of every row over its history, from `q` to `attended`, both in `activations`: as the regime wants it,
    /// [`Kernels::attention`] and [`Kernels::merge_attention`] or [`Kernels::flash_attention`].
    ///
    /// `splits`: the tensors `mixtures` and `softmaxes` of those.
    pub fn attend(
        &self,
        step: &Tensor,
        activations: &Tensor,
        cache: (&Cache, &Tensor),
        splits: [&Tensor; 2],
    ) -> Vec<Dispatch> {
        if self.regime.flash {
            return self.flash_attention(step, activations, cache);
        }
        let mut launches = self.attention(step, activations, cache, splits);
        launches.extend(self.merge_attention(step, splits, activations));
        launches
    }

    /// For each row, head and split of the row's history: softmax(q · keys / sqrt(head_dim)) · values, not yet
    /// divided by the softmax's sum
    ///
    /// `step`: the rows; `activations`: (rows, [`Config::activation_width`]), of which it reads q; `cache`: as in
    /// [`Cache::layer`]; `mixtures`: (rows, n_head, n_splits, [`Config::head_width`]) flat, where
    /// [`most_splits`](crate::regime::most_splits) is enough for n_splits; `softmaxes`: (rows, n_head, n_splits) maxima
    /// and sums, flat.
    pub fn attention(
        &self,
        step: &Tensor,
        activations: &Tensor,
        cache: (&Cache, &Tensor),
        [mixtures, softmaxes]: [&Tensor; 2],
    ) -> Vec<Dispatch> {
        let (lanes, split) = (attention_lanes(&self.config), self.split());
        let shares = lanes / (self.config.head_width() / 8);
        let mut constants = self.activation_constants(activations).to_vec();
        constants.extend(cache_constants(cache.0));
        constants.extend([
            ("WG_SIZE", lanes as f64),
            ("LANE_POSITIONS", self.geometry.lane_positions as f64),
            ("N_SHARES", f64::from(1u32 << shares.ilog2())),
            ("N_SPLITS", self.n_splits() as f64),
            ("SCALE", self.score_scale()),
        ]);
        let grid = [Axis::Fixed(self.config.n_head as u32), Axis::Rows(1), Axis::Positions(split as u32)];
        let bindings = [step.into(), activations.into(), cache.1.into(), mixtures.into(), softmaxes.into()];
        vec![self.dispatch(attention, "attention", &constants, &bindings, grid)]
    }

    /// `attended[row, head]` = the splits of [`Kernels::attention`] combined, divided by the softmax's sum
    ///
    /// `mixtures`, `softmaxes`: as there; `activations`: (rows, [`Config::activation_width`]), of which it writes
    /// `attended`.
    pub fn merge_attention(
        &self,
        step: &Tensor,
        [mixtures, softmaxes]: [&Tensor; 2],
        activations: &Tensor,
    ) -> Vec<Dispatch> {
        let mut constants = self.activation_constants(activations).to_vec();
        constants.extend([
            ("WG_SIZE", f64::from(LANES)),
            ("SPLIT", self.split() as f64),
            ("N_SPLITS", self.n_splits() as f64),
        ]);
        let grid = [Axis::Fixed(self.config.n_head as u32), Axis::Rows(1), Axis::Fixed(1)];
        let bindings = [step.into(), mixtures.into(), softmaxes.into(), activations.into()];
        vec![self.dispatch(merge_attention, "merge_attention", &constants, &bindings, grid)]
    }

    /// For each row and head: softmax(q · keys / sqrt(head_dim)) · values, for many rows
    ///
    /// `step`: the rows; `activations`: (rows, [`Config::activation_width`]), of which it reads q and writes
    /// `attended`; `cache`: as in [`Cache::layer`].
    pub fn flash_attention(&self, step: &Tensor, activations: &Tensor, cache: (&Cache, &Tensor)) -> Vec<Dispatch> {
        let mut constants = self.activation_constants(activations).to_vec();
        constants.extend(cache_constants(cache.0));
        // A workgroup has at most 256 lanes; tiles are powers of two, so that they divide every chunk of rows.
        let fitting: usize = 256 / (self.config.head_width() / 8);
        let lane_rows = 1 << fitting.clamp(1, 8).ilog2();
        constants.extend([("LANE_ROWS", f64::from(lane_rows)), ("SCALE", self.score_scale())]);
        let tile_rows: u32 = 4 * lane_rows;
        assert!(activations.rows().is_multiple_of(tile_rows as usize), "{} has room for tiles", activations.name());
        let grid = [Axis::Fixed(self.config.n_head as u32), Axis::Rows(tile_rows), Axis::Fixed(1)];
        let bindings = [step.into(), cache.1.into(), activations.into()];
        vec![self.dispatch(flash_attention, "flash_attention", &constants, &bindings, grid)]
    }

    /// Positions of a split of attention.
    pub fn split(&self) -> usize {
        attention_lanes(&self.config) * self.geometry.lane_positions
    }

    /// Splits that a history has at most.
    fn n_splits(&self) -> usize {
        self.n_positions.div_ceil(self.split())
    }

    fn score_scale(&self) -> f64 {
        1.0 / (self.config.head_dim() as f64).sqrt()
    }

    /// `tokens[output]` = the index of the largest logit, the first of equals
    ///
    /// `logits`: (outputs, vocab_size); `tokens`: (outputs) flat.
    pub fn argmax(&self, logits: &Tensor, tokens: &Tensor) -> Vec<Dispatch> {
        let constants = [("WG_SIZE", f64::from(ROW_LANES)), ("VOCAB_SIZE", logits.width() as f64)];
        let grid = [Axis::Outputs(1), Axis::Fixed(1), Axis::Fixed(1)];
        vec![self.dispatch(argmax, "argmax", &constants, &[logits.into(), tokens.into()], grid)]
    }
}

fn cache_constants(cache: &Cache) -> [(&'static str, f64); 2] {
    [("N_POSITIONS", cache.room() as f64), ("N_SLOTS", cache.n_slots() as f64)]
}

/// A row of a tensor in vec4s.
fn quads(tensor: &Tensor) -> f64 {
    (padded(tensor.width()) / 4) as f64
}

fn workgroups(size: usize, each: usize) -> Axis {
    Axis::Fixed(size.div_ceil(each) as u32)
}
