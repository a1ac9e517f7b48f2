//! What one process leaves for the next in `GpuOptions::cache_dir`: compiled pipelines and small tables.
//!
//! Whatever has become of the files, a GPU opens and works.

use std::path::{Path, PathBuf};

use gptj::internals::gpu::{Gpu, GpuOptions};
use gptj::{Checkpoint, Error, GemvConfig, LoadOptions, checkpoint};
use tempfile::TempDir;

use crate::common::golden;
use crate::common::gpu::{gpu, open};
use crate::common::transformers::load;

fn directory() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

fn open_in(directory: &Path) -> Option<Gpu> {
    open(&GpuOptions { cache_dir: Some(directory.to_owned()), ..GpuOptions::default() })
}

/// Has the GPU compile some pipelines.
fn compile(gpu: &Gpu) {
    let checkpoint = Checkpoint::open(&golden::model("narrow_mlp")).expect("the golden is sound");
    load(gpu, &checkpoint, &LoadOptions::default());
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("the directory is there");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// The file with the pipelines that the GPU saves; `None` where its driver hands none out.
fn save(gpu: &Gpu, directory: &Path) -> Option<PathBuf> {
    compile(gpu);
    gpu.save_pipelines().expect("the directory can be written");
    let mut files = files(directory);
    let file = files.pop();
    assert!(files.is_empty(), "one file, and nothing left over: {files:?}");
    assert_eq!(file.is_some(), gpu.info().backend == "vulkan", "Vulkan, and nothing else, hands pipelines out");
    file
}

#[test]
fn a_later_process_finds_the_pipelines() {
    let directory = directory();
    let Some(first) = open_in(directory.path()) else { return };
    assert!(!first.found_pipelines());
    let Some(file) = save(&first, directory.path()) else { return };

    std::fs::remove_file(&file).expect("the file is there");
    first.save_pipelines().expect("the directory can be written");
    assert!(!file.exists(), "nothing was compiled since, so nothing was to be written");

    let second = open_in(directory.path()).expect("it opened before");
    assert!(!second.found_pipelines(), "the file is gone");
    assert_eq!(save(&second, directory.path()), Some(file));
    let third = open_in(directory.path()).expect("it opened before");
    assert!(third.found_pipelines());
    compile(&third);
    third.check().expect("kept pipelines work");
}

#[test]
fn damaged_pipelines_are_ignored_and_replaced() {
    let directory = directory();
    let Some(gpu) = open_in(directory.path()) else { return };
    let Some(file) = save(&gpu, directory.path()) else { return };
    let sound = std::fs::read(&file).expect("it was just written");
    let middle = sound.len() / 2;
    let mut flipped = sound.clone();
    flipped[middle] ^= 1;
    for (case, bytes) in [
        ("empty", &[][..]),
        ("a part of the header", &sound[..10]),
        ("truncated", &sound[..middle]),
        ("a flipped bit", &flipped),
        ("extended", &[&sound[..], b"!"].concat()),
        ("foreign", b"GIF89a and so on, which no driver should be given"),
    ] {
        std::fs::write(&file, bytes).expect("room for a small file");
        let gpu = open_in(directory.path()).expect("it opened before");
        assert!(!gpu.found_pipelines(), "{case}");
        save(&gpu, directory.path());
        gpu.check().unwrap_or_else(|error| panic!("{case}: {error}"));
        let again = open_in(directory.path()).expect("it opened before");
        assert!(again.found_pipelines(), "{case}: a good file took its place");
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error_of_saving_alone() {
    let directory = directory();
    let file = directory.path().join("file");
    std::fs::write(&file, "").expect("room for an empty file");
    let Some(gpu) = open_in(&file.join("below")) else { return };
    compile(&gpu);
    gpu.check().expect("it works all the same");
    if gpu.info().backend == "vulkan" {
        let error = gpu.save_pipelines().expect_err("a file is no directory");
        assert!(
            matches!(&error, Error::Checkpoint(checkpoint::Error::Write { path, .. }) if path.starts_with(&file)),
            "{error}"
        );
    }
    let shape = GemvConfig { lanes: 8, rows: 1, depth: 1, limit: 1 };
    assert!(shape.keep(&gpu).is_err());
    assert_eq!(GemvConfig::tuned(&gpu), None);
}

#[test]
fn a_tuned_shape_is_read_as_it_was_kept() {
    let directory = directory();
    let path = directory.path().join("created/when/needed");
    let Some(gpu) = open_in(&path) else { return };
    let shape = GemvConfig { lanes: 16, rows: 2, depth: 4, limit: 7 };
    assert_eq!(GemvConfig::tuned(&gpu), None);
    shape.keep(&gpu).expect("the directory can be written");
    let later = open_in(&path).expect("it opened before");
    let found = GemvConfig::tuned(&later).expect("it was kept");
    assert_eq!(GemvConfig { limit: 7, ..found }, shape, "all but the limit, which follows from the kind of GPU");

    for file in files(&path) {
        std::fs::write(file, "{\"kernels\": 1, \"gemv\": {\"lanes\": 6").expect("room for a small file");
    }
    assert_eq!(GemvConfig::tuned(&later), None, "cut short");
}

#[test]
fn without_a_directory_nothing_is_kept() {
    let Some(gpu) = gpu() else { return };
    compile(&gpu);
    assert!(!gpu.found_pipelines());
    gpu.save_pipelines().expect("there is nothing to do");
    let shape = GemvConfig { lanes: 8, rows: 1, depth: 1, limit: 1 };
    shape.keep(&gpu).expect("there is nothing to do");
    assert_eq!(GemvConfig::tuned(&gpu), None);
}
