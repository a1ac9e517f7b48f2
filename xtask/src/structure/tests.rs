//! On small crates that are made up: each rule finds what breaks it and nothing else.

use std::fs;

use tempfile::TempDir;

use super::*;

/// A workspace of these files, given as (path, text).
fn structure(files: &[(&str, &str)]) -> Structure {
    let root = TempDir::new().expect("there is room");
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("there is room");
        fs::write(path, text).expect("there is room");
    }
    Structure::read(root.path()).expect("the files are sound")
}

/// The only fault of these files.
fn fault(files: &[(&str, &str)]) -> String {
    let faults = structure(files).faults();
    assert_eq!(faults.len(), 1, "{faults:#?}");
    faults.into_iter().next().expect("there is one")
}

/// A sound library and command line, which the tests below damage.
const SOUND: [(&str, &str); 10] = [
    (
        "src/lib.rs",
        "mod error; mod gpu; mod kernels; mod model;
         pub use error::Error; pub use gpu::{Gpu, Tensor}; pub use model::*; pub use wgpu;
         pub mod internals { pub mod kernels { pub use crate::kernels::*; } }",
    ),
    ("src/error.rs", "pub struct Error;"),
    (
        "src/gpu/mod.rs",
        "mod device; mod tensor; pub use device::Gpu; pub use tensor::Tensor; pub const SIZE: usize = 1;",
    ),
    ("src/gpu/device.rs", "use crate::Error; pub struct Gpu(wgpu::Device); pub fn open() -> Error { Error }"),
    ("src/gpu/tensor.rs", "use super::{Gpu, SIZE}; pub struct Tensor(Gpu, [u8; SIZE]);"),
    ("src/kernels.rs", "use crate::gpu::{Gpu, Tensor}; pub fn gemv(_: &Gpu, _: &Tensor) {}"),
    ("src/model.rs", "use gptj_checkpoint::Config; use crate::kernels::gemv; pub struct Model(Config);"),
    ("src/main.rs", "mod cli; use gptj::Model; fn main() { cli::run(Model) }"),
    ("src/cli/mod.rs", "mod bench; pub fn run(_: gptj::Model) { bench::run() }"),
    ("src/cli/bench.rs", "use gptj::internals::kernels; pub fn run() { kernels::gemv() }"),
];

/// The sound files, with these in the place of those of their names or beside them.
fn with<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = SOUND.into_iter().filter(|(path, _)| changes.iter().all(|(changed, _)| changed != path));
    kept.chain([("crates/checkpoint/src/lib.rs", "pub struct Config;")])
        .filter(|(path, _)| changes.iter().all(|(changed, _)| changed != path))
        .chain(changes.iter().copied())
        .collect()
}

#[test]
fn sound_sources_have_no_fault() {
    let structure = structure(&with(&[]));
    assert_eq!(structure.faults(), [""; 0]);
    let expected = "cli         lib, model, kernels
lib         model, kernels, gpu, error
model       kernels, checkpoint
kernels     gpu
gpu         error
checkpoint  -
error       -";
    assert_eq!(structure.table(), expected);
}

#[test]
fn an_arrow_upwards_is_a_fault_however_it_is_written() {
    for text in [
        "use crate::model::Model;",
        "use super::super::model;",
        "use super::super::{Error, model::{self as heart}};",
        "use crate::Model;",
        "fn f() { let x: Vec<crate::model::Model> = Vec::new(); }",
        "fn f() { println!(\"{}\", [1].map(|_| crate::model::SIZE).len()); }",
        "fn f() { use super::super::model::Model; }",
        "macro_rules! make { () => { $crate::model::Model } }",
        "mod inner { use super::super::super::model::Model; }",
    ] {
        let fault = fault(&with(&[("src/gpu/device.rs", &format!("{text}\npub struct Gpu;"))]));
        assert!(fault.starts_with("src/gpu/device.rs:1: `") && fault.contains("gpu uses model"), "{text}: {fault}");
    }
}

#[test]
fn tests_documentation_and_others_names_are_no_arrows() {
    for text in [
        "#[cfg(test)] mod tests { use crate::model::Model; }",
        "#[test] fn f() { crate::model::f() }",
        "/// `crate::model::Model` and [`model`](crate::model).\nfn f() {}",
        "enum Kind { model } fn f() -> Kind { Kind::model }",
        "fn f(model: usize) -> usize { model }",
        "pub(in crate::gpu) fn f() -> &'static str { \"crate::model::Model\" }",
        "mod model { pub fn f() {} } fn f() { model::f() }",
    ] {
        let device = format!("{text}\npub struct Gpu;");
        assert_eq!(structure(&with(&[("src/gpu/device.rs", &device)])).faults(), [""; 0], "{text}");
    }
}

#[test]
fn what_only_the_root_defines_is_above_all() {
    let files = with(&[("src/error.rs", "pub struct Error; fn f() { crate::helper() }")]);
    assert!(fault(&files).contains("error uses lib"));
}

#[test]
fn a_module_without_a_layer_is_a_fault() {
    let fault = fault(&[("src/lib.rs", "mod helpers;"), ("src/helpers/mod.rs", "")]);
    assert!(fault.starts_with("src/helpers/mod.rs: `helpers` has no place"), "{fault}");
}

#[test]
fn siblings_must_not_use_each_other_both_ways() {
    let device = ("src/gpu/device.rs", "use crate::Tensor; pub struct Gpu(wgpu::Device);");
    let fault = fault(&with(&[device]));
    let expected = "a circle:
    src/gpu/device.rs:1: device uses tensor: `crate::Tensor`
    src/gpu/tensor.rs:1: tensor uses device: `super::Gpu`";
    assert_eq!(fault, expected);
}

#[test]
fn long_circles_through_folders_are_found() {
    let files = with(&[
        ("crates/checkpoint/src/lib.rs", "mod a; mod b; mod c; pub struct Config;"),
        ("crates/checkpoint/src/a.rs", "use crate::b::deep::X;"),
        ("crates/checkpoint/src/b/mod.rs", "pub mod deep;"),
        ("crates/checkpoint/src/b/deep.rs", "use crate::c::Y; pub struct X;"),
        ("crates/checkpoint/src/c.rs", "use crate::a; pub struct Y;"),
    ]);
    let fault = fault(&files);
    assert_eq!(fault.lines().count(), 4, "{fault}");
}

#[test]
fn wgpu_has_one_home() {
    for text in ["use wgpu::Device;", "fn f(_: crate::wgpu::Device) {}", "fn f() { wgpu::vertex_attr_array![] }"] {
        let fault = fault(&with(&[("src/kernels.rs", &format!("{text} pub fn gemv() {{}}"))]));
        assert!(fault.starts_with("src/kernels.rs:1") && fault.contains("wgpu is for gpu and lib alone"), "{fault}");
    }
    let fault = fault(&with(&[("src/cli/bench.rs", "pub fn run() { gptj::wgpu::f() }")]));
    assert!(fault.contains("wgpu is for"), "{fault}");
}

#[test]
fn the_command_line_is_a_client_of_the_public_api() {
    let cli = "mod bench; pub fn run(_: gptj::Model) { bench::run(); gptj::internals::kernels::gemv() }";
    let fault = fault(&with(&[("src/cli/mod.rs", cli)]));
    assert!(fault.starts_with("src/cli/mod.rs:1") && fault.contains("not public"), "{fault}");
}

#[test]
fn the_checkpoint_crate_uses_no_other_and_gpu_not_it() {
    let upwards = fault(&with(&[("crates/checkpoint/src/lib.rs", "pub struct Config; use gptj::Model;")]));
    assert!(upwards.contains("checkpoint uses model"), "{upwards}");
    let aside = fault(&with(&[("src/gpu/device.rs", "pub struct Gpu(gptj_checkpoint::Config);")]));
    assert!(aside.contains("gpu uses checkpoint"), "{aside}");
}

#[test]
fn tensor_names_have_one_home() {
    for name in ["transformer.h.{layer}", "{layer}.attn.q_proj.weight", "lm_head.bias", "blk.0"] {
        let text = format!("pub struct Gpu; fn f(layer: usize) {{ format!(\"{name}\"); }}");
        assert!(fault(&with(&[("src/gpu/device.rs", &text)])).contains("name of a tensor"), "{name}");
        assert_eq!(structure(&with(&[("crates/checkpoint/src/lib.rs", &text)])).faults(), [""; 0]);
    }
}
