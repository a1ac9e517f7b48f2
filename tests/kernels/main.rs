//! Every kernel against its twin in `gptj::internals::kernels::reference`, over shapes that are odd on purpose.
//!
//! The GPU runs with every check of memory accesses in place, with and without native f16 and subgroups. Inputs are
//! multiples of 1/64, so that f16 holds them exactly and what differs is the kernels' own arithmetic: sums in f32 in
//! another order than the reference's (which sums in f64). A sum of n products of numbers below 1 is off by at most n *
//! 2^-24 * (the sum of their absolute values), and in practice by the square root of that n; the tolerances are that
//! bound for the largest n here, with the magnitude of the results in view.

mod attention;
mod cases;
#[path = "../common/mod.rs"]
mod common;
mod gpu_data;
mod layout;
mod matmuls;
mod rows;
mod self_test;
mod shaders;
mod tools;
