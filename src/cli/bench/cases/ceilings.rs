//! The ceilings that the other cases are compared with.

use gptj::internals::gpu::Dtype;
use gptj::internals::kernels::{FMA_STEPS, reference};

use super::super::workbench::{Check, Work, Workbench, sample};
use super::{Case, nothing, plan};

/// Reading, then arithmetic.
pub(in super::super) fn ceilings(is_software: bool) -> [Case; 2] {
    // More than any cache holds; a software adapter has less, and less time.
    let (data_rows, n_lanes) = if is_software { (1024, 1 << 14) } else { (4096, 1 << 18) };
    let width = 1 << 16;
    let read = move |bench: &mut Workbench| {
        let (data, _) = bench.matrices("data", [data_rows, width])?;
        let found = bench.integers("found", &[0u32])?;
        let plans = data.iter().map(|data| plan([bench.kernels.read_ceiling(data, &found)])).collect();
        let checks = vec![Check { written: found.into(), expected: vec![(0, 0, 0.0)], tolerance: 0.0 }];
        Ok(Work { plans, bytes: data[0].bytes(), checks, ..nothing(1) })
    };
    let rounds = 64;
    let fma = move |bench: &mut Workbench| {
        let (factor, term) = (0.999, 0.001);
        let chain = bench.floats("chain", 1, 2, &[factor, term])?;
        let sums = bench.zeros("sums", 1, 4 * n_lanes, Dtype::F32)?;
        let plans = vec![plan([bench.kernels.fma_ceiling(rounds, &chain, &sums)])];
        let mut expected = Vec::new();
        for lane in sample(n_lanes) {
            let sums = reference::fma_ceiling(lane, rounds * FMA_STEPS, factor, term);
            expected.extend((0..4).map(|i| (0, 4 * lane + i, sums[i])));
        }
        // An error of 2^-24 in a step shrinks by the factor in each later one: a thousand of them are left.
        let checks = vec![Check { written: sums.into(), expected, tolerance: 1e-3 }];
        let flops = n_lanes as u64 * u64::from(rounds * FMA_STEPS) * 16;
        Ok(Work { plans, flops, bytes: n_lanes as u64 * 16, checks, ..nothing(1) })
    };
    [
        Case::new("read_ceiling", format!("{data_rows}x{width}"), 1, read),
        Case::new("fma_ceiling", format!("{n_lanes}x{rounds}"), 1, fma),
    ]
}
