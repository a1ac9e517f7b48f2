//! The vocabulary of the forward pass: one launcher a kernel.
//!
//! A launcher says what its kernel computes on tensors of which shapes, and alone knows the kernel's constants,
//! bindings and grid. It launches nothing: it returns dispatches, which a [`Plan`](crate::gpu::Plan) replays at every
//! step. Kernels work on rows; `rows` in a shape is how many a step has, up to the tensor's own number. Shapes that do not
//! fit are a mistake of the caller and panic.

use crate::config::Config;
use crate::gpu::{Axis, Binding, Dispatch, Format, Gpu, Import, Part, Shader, Shaders, Tensor};
use crate::weights::{LayerNorm, Linear};

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
    matvec: &["matvec", "matvec_bias", "matvec_bias_gelu", "matvec_residual", "matvec_bias_residual"];
    matmul: &["matmul", "matmul_bias", "matmul_bias_gelu", "matmul_residual", "matmul_bias_residual"];
    rotary: &["rotary"];
    append_cache: &["append_cache"];
    attention: &["attention"];
    merge_attention: &["merge_attention"];
    argmax: &["argmax"];
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
pub const IMPORTS: &[Import] = {
    use crate::gpu::Feature::{F16, Subgroups};
    &[
        Import { name: "cache", text: shared!("cache"), alternative: None },
        Import { name: "gelu", text: shared!("gelu"), alternative: None },
        Import { name: "half", text: shared!("half_native"), alternative: Some((F16, shared!("half_packed"))) },
        Import {
            name: "reduce",
            text: shared!("reduce_subgroups"),
            alternative: Some((Subgroups, shared!("reduce_workgroup"))),
        },
        Import { name: "rows", text: shared!("rows"), alternative: None },
        Import { name: "weights", text: shared!("weights_f16"), alternative: None },
        Import { name: "widths", text: shared!("widths"), alternative: None },
    ]
};

/// One token's work in a step; `shaders/shared/rows.wgsl` has the same struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Row {
    /// The token's id.
    pub token: u32,
    /// The sequence it belongs to.
    pub slot: u32,
    /// Its place in the sequence, from 0.
    pub position: u32,
}

/// For how many rows a plan is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Regime {
    /// Decoding: bound by how fast weights stream in. Every row takes its own pass over them.
    Few,
    /// Prompts: bound by arithmetic. Rows are padded to whole tiles of [`TILE_ROWS`].
    Many,
}

impl Regime {
    /// Positions of a split of `attention`. Few rows need the splits to fill the GPU; many fill it by themselves.
    fn split(self, n_positions: usize) -> usize {
        match self {
            Self::Few => FEW_SPLIT.min(n_positions),
            Self::Many => n_positions,
        }
    }

    /// Splits that the history of a row has at most.
    pub fn n_splits(self, n_positions: usize) -> usize {
        n_positions.div_ceil(self.split(n_positions))
    }
}

/// Rows of a tile of `matmul`.
pub const TILE_ROWS: usize = 32;

/// Output features of a tile of `matmul`.
const TILE_FEATURES: usize = 64;

/// Output features of a workgroup of `matvec`.
const VECTOR_FEATURES: usize = 4;

/// Positions of a split of `attention` where rows are few.
pub const FEW_SPLIT: usize = 256;

/// Lanes of the kernels that walk along a row.
const ROW_LANES: u32 = 256;

/// Lanes of the kernels that many workgroups of run at once.
const LANES: u32 = 64;

/// The launchers, for one model on one GPU.
#[derive(Clone)]
pub struct Kernels {
    shaders: Shaders,
    config: Config,
    n_positions: usize,
    regime: Regime,
}

impl Kernels {
    /// For a model of this configuration whose cache has room for `n_positions` positions a slot.
    pub fn new(gpu: &Gpu, config: &Config, n_positions: usize) -> Self {
        let shaders = Shaders::new(gpu, IMPORTS);
        Self { shaders, config: config.clone(), n_positions, regime: Regime::Few }
    }

    /// The same launchers for steps of so many rows; compiled kernels are shared.
    #[must_use]
    pub fn for_rows(&self, regime: Regime) -> Self {
        Self { regime, ..self.clone() }
    }

    fn split(&self) -> usize {
        self.regime.split(self.n_positions)
    }

    fn n_splits(&self) -> usize {
        self.regime.n_splits(self.n_positions)
    }

    fn dispatch(
        &self,
        shader: Shader,
        entry_point: &'static str,
        constants: &[(&str, f64)],
        bindings: &[Binding<'_>],
        grid: [Axis; 3],
    ) -> Dispatch {
        Dispatch::new(&self.shaders, shader, entry_point, constants, bindings, grid)
    }

    /// `x[row] = wte[token[row]]`
    ///
    /// `rows`: [`Row`]s; `wte`: (vocab_size, n_embd) f16; `x`: (rows, n_embd).
    pub fn embed(&self, rows: &Tensor, wte: &Tensor, x: &Tensor) -> Vec<Dispatch> {
        assert_eq!(wte.width(), x.width(), "embed copies rows of wte to x");
        let launch = |part: &Part| {
            let constants = [
                ("WG_SIZE", f64::from(ROW_LANES)),
                ("N_EMBD", x.width() as f64),
                ("FIRST_TOKEN", part.first_row as f64),
                ("N_TOKENS", part.rows as f64),
            ];
            let grid = [Axis::Rows(1), Axis::Fixed(1), Axis::Fixed(1)];
            self.dispatch(embed, "embed", &constants, &[rows.into(), part.into(), x.into()], grid)
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
        let grid = [Axis::Outputs, Axis::Fixed(1), Axis::Fixed(1)];
        let bindings = [x.into(), (&norm.gain).into(), (&norm.bias).into(), normed.into(), outputs.into()];
        vec![self.dispatch(layer_norm, "layer_norm_outputs", &self.layer_norm_constants(x), &bindings, grid)]
    }

    fn layer_norm_constants(&self, x: &Tensor) -> [(&'static str, f64); 3] {
        let epsilon = f64::from(self.config.layer_norm_epsilon);
        [("WG_SIZE", f64::from(ROW_LANES)), ("N_EMBD", x.width() as f64), ("EPS", epsilon)]
    }

    /// `output[row] = weight · input[row] + bias`, the bias where there is one
    ///
    /// `input`: (rows, in); `linear.weight`: (out, in); `output`: (rows, out).
    pub fn linear(&self, input: &Tensor, linear: &Linear, output: &Tensor) -> Vec<Dispatch> {
        let names = match linear.bias {
            None => ("matvec", "matmul"),
            Some(_) => ("matvec_bias", "matmul_bias"),
        };
        self.matrix_product(names, input, linear, output, Axis::Rows)
    }

    /// `output[row] = gelu(weight · input[row] + bias)`; shapes as in [`Kernels::linear`].
    pub fn linear_gelu(&self, input: &Tensor, linear: &Linear, output: &Tensor) -> Vec<Dispatch> {
        assert!(linear.bias.is_some(), "{} has a bias", linear.weight.name());
        self.matrix_product(("matvec_bias_gelu", "matmul_bias_gelu"), input, linear, output, Axis::Rows)
    }

    /// `output[row] += weight · input[row] + bias`; shapes as in [`Kernels::linear`].
    pub fn linear_residual(&self, input: &Tensor, linear: &Linear, output: &Tensor) -> Vec<Dispatch> {
        let names = match linear.bias {
            None => ("matvec_residual", "matmul_residual"),
            Some(_) => ("matvec_bias_residual", "matmul_bias_residual"),
        };
        self.matrix_product(names, input, linear, output, Axis::Rows)
    }

    /// [`Kernels::linear`] over the rows whose logits are wanted.
    ///
    /// `input`: (outputs, in); `output`: (outputs, out).
    pub fn linear_outputs(&self, input: &Tensor, linear: &Linear, output: &Tensor) -> Vec<Dispatch> {
        let names = match linear.bias {
            None => ("matvec", "matmul"),
            Some(_) => ("matvec_bias", "matmul_bias"),
        };
        self.for_rows(Regime::Few).matrix_product(names, input, linear, output, |_| Axis::Outputs)
    }

    fn matrix_product(
        &self,
        (vector_kernel, tile_kernel): (&'static str, &'static str),
        input: &Tensor,
        linear: &Linear,
        output: &Tensor,
        rows: impl Fn(u32) -> Axis,
    ) -> Vec<Dispatch> {
        let weight = &linear.weight;
        assert_eq!(input.width(), weight.width(), "{} takes rows of its width", weight.name());
        assert_eq!(output.width(), weight.rows(), "{} gives a value for each of its rows", weight.name());
        let launch = |part: &Part| {
            let constants = [
                ("IN", input.width() as f64),
                ("OUT", part.rows as f64),
                ("FIRST_OUT", part.first_row as f64),
                ("OUT_WIDTH", output.width() as f64),
                ("WG_SIZE", f64::from(LANES)),
            ];
            let mut bindings = vec![part.into(), input.into(), output.into()];
            bindings.extend(linear.bias.as_ref().map(Binding::from));
            match self.regime {
                Regime::Few => {
                    let grid = [workgroups(part.rows, VECTOR_FEATURES), rows(1), Axis::Fixed(1)];
                    self.dispatch(matvec, vector_kernel, &constants, &bindings, grid)
                }
                Regime::Many => {
                    assert!(input.rows().is_multiple_of(TILE_ROWS), "{} has room for whole tiles", input.name());
                    assert!(output.rows().is_multiple_of(TILE_ROWS), "{} has room for whole tiles", output.name());
                    let grid = [workgroups(part.rows, TILE_FEATURES), rows(TILE_ROWS as u32), Axis::Fixed(1)];
                    // The size of matmul's workgroups is part of its tile.
                    let (_, constants) = constants.split_last().expect("there are constants");
                    self.dispatch(matmul, tile_kernel, constants, &bindings, grid)
                }
            }
        };
        weight.parts().iter().map(launch).collect()
    }

    /// Turns pairs (2i, 2i + 1) of each head's first `rotary_dim` dimensions by the angles of the row's position, in
    /// place.
    ///
    /// `rows`: [`Row`]s; `angles`: [`Config::rotary_angles`]; `vectors`: (rows, n_embd).
    pub fn rotary(&self, rows: &Tensor, angles: &Tensor, vectors: &Tensor) -> Vec<Dispatch> {
        assert_eq!(vectors.width(), self.config.n_embd, "rotary turns all heads of a row");
        let constants = [
            ("WG_SIZE", f64::from(ROW_LANES)),
            ("N_HEAD", self.config.n_head as f64),
            ("HEAD_DIM", self.config.head_dim() as f64),
            ("ROTARY_DIM", self.config.rotary_dim as f64),
        ];
        let grid = [Axis::Rows(1), Axis::Fixed(1), Axis::Fixed(1)];
        vec![self.dispatch(rotary, "rotary", &constants, &[rows.into(), angles.into(), vectors.into()], grid)]
    }

    /// `keys[slot, head, position] = k[row, head]`, and values likewise, as f16
    ///
    /// `rows`: [`Row`]s; `k`, `v`: (rows, n_embd); `keys`, `values`: (slots * n_head * n_positions, head_dim) f16.
    pub fn append_cache(&self, rows: &Tensor, [k, v]: [&Tensor; 2], [keys, values]: [&Tensor; 2]) -> Vec<Dispatch> {
        assert_eq!(k.width(), self.config.n_embd, "append_cache stores all heads of a row");
        assert_eq!(keys.width(), self.config.head_dim(), "the cache holds one head a row");
        let mut constants = self.cache_constants().to_vec();
        constants.push(("WG_SIZE", f64::from(ROW_LANES)));
        let grid = [Axis::Rows(1), Axis::Fixed(1), Axis::Fixed(1)];
        let bindings = [rows.into(), k.into(), v.into(), keys.into(), values.into()];
        vec![self.dispatch(append_cache, "append_cache", &constants, &bindings, grid)]
    }

    fn cache_constants(&self) -> [(&'static str, f64); 3] {
        [
            ("N_HEAD", self.config.n_head as f64),
            ("HEAD_DIM", self.config.head_dim() as f64),
            ("N_POSITIONS", self.n_positions as f64),
        ]
    }

    /// For each row, head and split of the row's history: softmax(q · keys / sqrt(head_dim)) · values, not yet
    /// divided by the softmax's sum
    ///
    /// `rows`: [`Row`]s; `q`: (rows, n_embd); `keys`, `values`: as in [`Kernels::append_cache`]; `mixtures`: (rows,
    /// n_head, n_splits, head_dim rounded up to a multiple of four) flat; `softmaxes`: (rows, n_head, n_splits)
    /// maxima and sums, flat.
    pub fn attention(
        &self,
        rows: &Tensor,
        q: &Tensor,
        [keys, values]: [&Tensor; 2],
        [mixtures, softmaxes]: [&Tensor; 2],
    ) -> Vec<Dispatch> {
        assert_eq!(q.width(), self.config.n_embd, "attention takes all heads of a row");
        assert_eq!(keys.width(), self.config.head_dim(), "the cache holds one head a row");
        let mut constants = self.cache_constants().to_vec();
        constants.extend([
            ("WG_SIZE", f64::from(LANES)),
            ("SPLIT", self.split() as f64),
            ("N_SPLITS", self.n_splits() as f64),
            ("SCALE", 1.0 / (self.config.head_dim() as f64).sqrt()),
        ]);
        let grid = [Axis::Fixed(self.config.n_head as u32), Axis::Rows(1), Axis::Positions(self.split() as u32)];
        let bindings = [rows.into(), q.into(), keys.into(), values.into(), mixtures.into(), softmaxes.into()];
        vec![self.dispatch(attention, "attention", &constants, &bindings, grid)]
    }

    /// `attended[row, head]` = the splits of [`Kernels::attention`] combined, divided by the softmax's sum
    ///
    /// `attended`: (rows, n_embd).
    pub fn merge_attention(
        &self,
        rows: &Tensor,
        [mixtures, softmaxes]: [&Tensor; 2],
        attended: &Tensor,
    ) -> Vec<Dispatch> {
        assert_eq!(attended.width(), self.config.n_embd, "merge_attention gives all heads of a row");
        let constants = [
            ("WG_SIZE", f64::from(LANES)),
            ("N_HEAD", self.config.n_head as f64),
            ("HEAD_DIM", self.config.head_dim() as f64),
            ("SPLIT", self.split() as f64),
            ("N_SPLITS", self.n_splits() as f64),
        ];
        let grid = [Axis::Fixed(self.config.n_head as u32), Axis::Rows(1), Axis::Fixed(1)];
        let bindings = [rows.into(), mixtures.into(), softmaxes.into(), attended.into()];
        vec![self.dispatch(merge_attention, "merge_attention", &constants, &bindings, grid)]
    }

    /// `tokens[output]` = the index of the largest logit, the first of equals
    ///
    /// `logits`: (outputs, vocab_size); `tokens`: (outputs) flat.
    pub fn argmax(&self, logits: &Tensor, tokens: &Tensor) -> Vec<Dispatch> {
        let constants = [("WG_SIZE", f64::from(ROW_LANES)), ("VOCAB_SIZE", logits.width() as f64)];
        let grid = [Axis::Outputs, Axis::Fixed(1), Axis::Fixed(1)];
        vec![self.dispatch(argmax, "argmax", &constants, &[logits.into(), tokens.into()], grid)]
    }
}

/// Workgroups of the ceilings and of `fill_random` at most: enough for any GPU, and each has something to do.
const MANY_WORKGROUPS: usize = 4096;

/// What no exclusive or of random numbers is, all but surely.
pub const NEEDLE: u32 = 0x5EED_0BAD;

/// What benchmarks need beside the kernels of the pass.
impl Kernels {
    /// `values[row, i]` = a pseudo-random multiple of `scale` / 1024 between `-scale` and `scale`, which depends on
    /// nothing but the seed, the row and `i`
    ///
    /// `seed`: one number; `values`: any rows, f16. A `scale` that is a power of two gives values that f16 holds exactly.
    pub fn fill_random(&self, seed: &Tensor, scale: f32, values: &Tensor) -> Vec<Dispatch> {
        assert_eq!(values.format(), Format::F16, "fill_random fills f16");
        let launch = |part: &Part| {
            let constants = [
                ("WG_SIZE", f64::from(LANES)),
                ("WIDTH", values.width() as f64),
                ("N_ROWS", part.rows as f64),
                ("FIRST_ROW", part.first_row as f64),
                ("SCALE", f64::from(scale)),
            ];
            let grid = [Axis::Fixed(part.rows.min(MANY_WORKGROUPS) as u32), Axis::Fixed(1), Axis::Fixed(1)];
            self.dispatch(fill_random, "fill_random", &constants, &[seed.into(), part.into()], grid)
        };
        values.parts().iter().map(launch).collect()
    }

    /// Reads all of `data` as fast as it can; `found[0]` becomes 1 where the exclusive or of some lane's 16-byte loads is
    /// [`NEEDLE`] four times.
    ///
    /// `data`: any rows; `found`: one number.
    pub fn read_ceiling(&self, data: &Tensor, found: &Tensor) -> Vec<Dispatch> {
        let launch = |part: &Part| {
            let n_loads = part.rows * data.row_bytes() / 16;
            let constants =
                [("WG_SIZE", f64::from(ROW_LANES)), ("N_LOADS", n_loads as f64), ("NEEDLE", f64::from(NEEDLE))];
            let n_workgroups = n_loads.div_ceil(ROW_LANES as usize).min(MANY_WORKGROUPS);
            let grid = [Axis::Fixed(n_workgroups as u32), Axis::Fixed(1), Axis::Fixed(1)];
            self.dispatch(read_ceiling, "read_ceiling", &constants, &[part.into(), found.into()], grid)
        };
        data.parts().iter().map(launch).collect()
    }

    /// `sums[lane]` = the sum of two chains of `rounds` * [`FMA_STEPS`] steps `s = s * factor + term`, four wide, which
    /// begin at plus and at minus (`lane` % 64) / 64 + (0, 1, 2, 3)
    ///
    /// `chain`: factor and term, f32; `sums`: (lanes, 4) flat, f32, for whole workgroups of 64 lanes.
    pub fn fma_ceiling(&self, rounds: u32, chain: &Tensor, sums: &Tensor) -> Vec<Dispatch> {
        let n_lanes = sums.width() / 4;
        assert!(n_lanes.is_multiple_of(LANES as usize), "fma_ceiling runs whole workgroups");
        let constants = [("WG_SIZE", f64::from(LANES)), ("ROUNDS", f64::from(rounds))];
        let grid = [workgroups(n_lanes, LANES as usize), Axis::Fixed(1), Axis::Fixed(1)];
        vec![self.dispatch(fma_ceiling, "fma_ceiling", &constants, &[chain.into(), sums.into()], grid)]
    }
}

/// Steps of a round of `fma_ceiling`.
pub const FMA_STEPS: u32 = 64;

fn workgroups(size: usize, each: usize) -> Axis {
    Axis::Fixed(size.div_ceil(each) as u32)
}

/// Elements of `mixtures` for one row, head and split.
pub fn mixture_width(config: &Config) -> usize {
    config.head_dim().next_multiple_of(4)
}
