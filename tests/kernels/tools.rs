//! The kernels of benchmarks: made-up weights, and what a device can do at most.

use gptj::internals::gpu::{Dtype, Tensor, padded};
use gptj::internals::kernels::{FMA_STEPS, NEEDLE, reference};
use pollster::block_on;

use crate::cases::{for_each_case, plan, step};
use crate::common::numbers::assert_close;
use crate::gpu_data::{f16_tensor, f32_tensor, read, run, u32_tensor};

#[test]
fn fill_random() {
    for_each_case("fill_random", |gpu, config, kernels| {
        let (rows, width, scale) = (5, config.n_embd, 1.0 / 32.0);
        let values = f16_tensor(gpu, "values", rows, width, &vec![1.0; rows * width]);
        run(gpu, &plan([kernels.fill_random(&u32_tensor(gpu, "seed", &[7]), scale, &values)]), step(&[]));
        let got: Vec<half::f16> = block_on(values.read(gpu, rows)).expect("the GPU works");
        let got: Vec<f32> = got.into_iter().map(half::f16::to_f32).collect();
        let want = reference::fill_random(7, scale, 0..rows * width);
        assert_close("fill_random", &got, &want, 0.0, 0.0);
        assert_ne!(want[..width], want[width..2 * width], "rows differ");
        assert_ne!(want, reference::fill_random(8, scale, 0..rows * width), "seeds differ");
        let padded_rows: Vec<half::f16> = block_on(values.read_padded(gpu, rows)).expect("the GPU works");
        for row in padded_rows.chunks(padded(width)) {
            assert!(row[width..].iter().all(|&value| value == half::f16::ZERO), "the padding is zero");
        }
    });
}

/// A needle is found wherever it is, and nowhere else.
#[test]
fn read_ceiling() {
    for_each_case("read_ceiling", |gpu, config, kernels| {
        if config.n_embd != 33 {
            return;
        }
        // More than all lanes load at once in four steps, and a rest; a row is two loads.
        let lanes = 4096 * 256;
        let n_rows = (4 * lanes + lanes + 78) / 2;
        let data = block_on(Tensor::whole(gpu, "data", n_rows, 8, Dtype::U32)).expect("room");
        let find = || {
            let found = u32_tensor(gpu, "found", &[0u32]);
            run(gpu, &plan([kernels.read_ceiling(&data, &found)]), step(&[]));
            block_on(found.read::<u32>(gpu, 1)).expect("the GPU works")[0]
        };
        assert_eq!(find(), 0, "there is no needle");
        for load in [0, lanes, 4 * lanes - 1, 2 * n_rows - 1] {
            let mut hay = [0u32; 8];
            hay[4 * (load % 2)..][..4].fill(NEEDLE);
            data.write(gpu, load / 2, bytemuck::bytes_of(&hay));
            assert_eq!(find(), 1, "the needle is load {load}");
            data.write(gpu, load / 2, bytemuck::bytes_of(&[0u32; 8]));
        }
    });
}

#[test]
fn fma_ceiling() {
    for_each_case("fma_ceiling", |gpu, _, kernels| {
        let n_lanes = 128;
        let sums = f32_tensor(gpu, "sums", 1, 4 * n_lanes, &[]);
        let chain = f32_tensor(gpu, "chain", 1, 2, &[0.999, 0.001]);
        let rounds = 3;
        run(gpu, &plan([kernels.fma_ceiling(rounds, &chain, &sums)]), step(&[]));
        let want: Vec<f32> =
            (0..n_lanes).flat_map(|lane| reference::fma_ceiling(lane, rounds * FMA_STEPS, 0.999, 0.001)).collect();
        // Each of the 192 steps rounds a number below 4 to 2^-23, or twice where multiplying and adding are two steps.
        assert_close("fma_ceiling", &read(gpu, &sums, 1), &want, 1e-4, 0.0);
    });
}
