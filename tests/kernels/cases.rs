//! What kernels are tried on: small models of odd shapes, every specialisation of the GPU, every way to multiply.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::LazyLock;

use gptj::Config;
use gptj::internals::gpu::{Dispatch, Gpu, Plan};
use gptj::internals::kernels::{
    GemvConfig, KernelVariant, Kernels, Matmul, Row, SHADERS, StepSize, Tuning, Variant, stitch,
};
use gptj::internals::weights::Storage;

use crate::common::gpu::gpus;

/// Sums of up to 320 products below 1 in f32: 320 * 2^-24 * the results' magnitude of up to some ten.
pub const SUM: f32 = 2e-4;

/// One f16 rounding, of which implementations choose the direction: 2^-10 of the number.
pub const F16_ROUNDING: f32 = 1.0 / 1024.0;

/// Rows and slots that tests have room for.
pub const N_ROWS: usize = 256;

pub const N_SLOTS: usize = 2;

/// Positions of a sequence, and of a slot: whole blocks of keys.
pub const POSITIONS: usize = 600;
pub const CAPACITY: usize = 608;

/// Small models whose sizes have nothing in common with the kernels' groups, tiles and workgroups (70 is an odd number
/// of groups of eight, which leaves the last slice of a tile half empty); the third has the real head shape, and the
/// last a head whose octets are no power of two and too many for eight lanes each in a workgroup.
pub static CONFIGS: LazyLock<[Config; 4]> = LazyLock::new(|| {
    [(33, 3, 6, 70, 101), (40, 5, 8, 160, 1000), (512, 2, 64, 64, 160), (320, 1, 10, 16, 40)].map(
        |(n_embd, n_head, rotary_dim, n_inner, vocab_size)| Config {
            vocab_size,
            n_positions: POSITIONS,
            n_embd,
            n_layer: 1,
            n_head,
            rotary_dim,
            n_inner,
            ..Config::default()
        },
    )
});

/// Rows of two sequences, mixed, at positions that are in the first split, at its border, and beyond; no two the same.
pub fn rows(n_rows: usize, config: &Config) -> Vec<Row> {
    let row = |i: u32| Row { slot: i % 2, position: (i * 131 + 17) % config.n_positions as u32 };
    (0..n_rows as u32).map(row).collect()
}

pub fn step(rows: &[Row]) -> StepSize {
    let positions = rows.iter().map(|row| row.position + 1).max().unwrap_or(0);
    StepSize { rows: rows.len() as u32, outputs: 0, positions }
}

pub fn plan(launches: impl IntoIterator<Item = Vec<Dispatch>>) -> Plan {
    let mut plan = Plan::default();
    launches.into_iter().for_each(|launch| plan.run(launch));
    plan
}

/// Runs a check with every small model on every GPU specialisation that has a version of its own of `shader`.
pub fn for_each_case(shader: &str, check: impl Fn(&Gpu, &Config, &Kernels)) {
    let check = &check;
    for_each_matmul(shader, &[Matmul::Gemv], |config| move |gpu, kernels, _| check(gpu, config, kernels));
}

/// The same with every version of its matmul. What a check computes without the GPU, it computes once for a model.
pub fn for_each_matmul<C: Fn(&Gpu, &Kernels, Matmul)>(
    shader: &str,
    matmuls: &[Matmul],
    check_of: impl Fn(&'static Config) -> C,
) {
    let shader = SHADERS.iter().find(|other| other.name == shader).expect("a shader");
    let (gpus, mut seen, mut versions) = (gpus(), BTreeSet::new(), Vec::new());
    for gpu in &gpus {
        for &matmul in matmuls {
            // The software driver computes more shapes than it offers.
            let offers = |side: &u32| Matmul::on_matrix_units(*side) == matmul || gpu.info().is_software();
            let can = !matmul.is_coopmat() || gpu.matrix_sides().iter().any(offers);
            let variant = Variant { matmul, weights: Storage::F16, device: gpu.specialisation() };
            if can && seen.insert(stitch(*shader, variant)) {
                versions.push((gpu, matmul));
            }
        }
    }
    for config in CONFIGS.iter() {
        let check = check_of(config);
        for &(gpu, matmul) in &versions {
            let kernels = Kernels::new(gpu, config, tuning(gpu));
            check(gpu, &kernels, matmul);
            gpu.check().expect("the GPU works");
        }
    }
}

/// A function of the number of rows whose results are kept.
pub fn once_for_each<T>(compute: impl Fn(usize) -> T) -> impl Fn(usize) -> Rc<T> {
    let computed = RefCell::new(BTreeMap::new());
    move |n_rows| Rc::clone(computed.borrow_mut().entry(n_rows).or_insert_with(|| Rc::new(compute(n_rows))))
}

/// Workgroups as GPUs have them, also where the GPU is a program: with slices to add.
pub fn tuning(gpu: &Gpu) -> Tuning {
    let gemv = GemvConfig { lanes: 64, rows: 8, depth: 2, limit: 32 };
    Tuning { gemv, norm_lanes: 64, lane_positions: 2, ..Tuning::for_adapter(gpu.info()) }
}

/// Variants of a matmul, each with numbers of rows to try.
pub fn variants(matmul: Matmul) -> Vec<(KernelVariant, usize)> {
    let vector = |rows, n_rows| (KernelVariant { matmul, rows, flash: false }, n_rows);
    let tile = |n_rows| (KernelVariant { matmul, rows: 1, flash: false }, n_rows);
    match matmul {
        // Whole passes, a part of one, and several.
        Matmul::Gemv => vec![vector(1, 1), vector(2, 2), vector(4, 3), vector(8, 8), vector(4, 9)],
        // A part of a tile, and several.
        _ => vec![tile(9), tile(200)],
    }
}
