//! What one process leaves for the next in `GpuOptions::cache_dir`: compiled pipelines and small tables.
//!
//! Whatever has become of the files, a GPU opens and works.

mod common;

use std::path::{Path, PathBuf};

use common::{block_on, open};
use gptj::internals::gpu::{Gpu, GpuOptions};
use gptj::{Checkpoint, Error, LoadOptions, Model};
use tempfile::TempDir;

fn directory() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

fn open_in(directory: &Path) -> Option<Gpu> {
    open(&GpuOptions { cache_dir: Some(directory.to_owned()), ..GpuOptions::default() })
}

/// Has the GPU compile some pipelines.
fn compile(gpu: &Gpu) {
    let checkpoint = Checkpoint::open(Path::new("tests/golden/narrow_mlp")).expect("the golden is sound");
    block_on(Model::load(gpu, &checkpoint, &LoadOptions::default(), |_| ())).expect("room for a small model");
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
        assert!(matches!(&error, Error::Write { path, .. } if path.starts_with(&file)), "{error}");
    }
    assert!(gpu.write_json("table", &1).is_err());
    assert_eq!(gpu.read_json::<u32>("table"), None);
}

#[test]
fn a_table_is_read_as_it_was_written() {
    let directory = directory();
    let path = directory.path().join("created/when/needed");
    let Some(gpu) = open_in(&path) else { return };
    let table = [("matmul".to_owned(), 64), ("attention".to_owned(), 128)];
    assert_eq!(gpu.read_json::<Vec<(String, u32)>>("table"), None);
    gpu.write_json("table", &table).expect("the directory can be written");
    gpu.write_json("other", &"another table").expect("the directory can be written");
    let later = open_in(&path).expect("it opened before");
    assert_eq!(later.read_json("table"), Some(table));
    assert_eq!(later.read_json::<Vec<u32>>("table"), None, "not of that form");

    for file in files(&path) {
        std::fs::write(file, "[[\"matmul\", 6").expect("room for a small file");
    }
    assert_eq!(later.read_json::<Vec<(String, u32)>>("table"), None, "cut short");
}

#[test]
fn without_a_directory_nothing_is_kept() {
    let Some(gpu) = common::gpu() else { return };
    compile(&gpu);
    assert!(!gpu.found_pipelines());
    gpu.save_pipelines().expect("there is nothing to do");
    gpu.write_json("table", &1).expect("there is nothing to do");
    assert_eq!(gpu.read_json::<u32>("table"), None);
}

#[cfg(feature = "cli")]
#[test]
fn the_program_keeps_pipelines_where_the_environment_says() {
    let Some(gpu) = common::gpu() else { return };
    let directory = directory();
    let [kept, file] = ["kept", "file"].map(|name| directory.path().join(name));
    std::fs::write(&file, "").expect("room for an empty file");
    let generate = |cache_dir: &Path| {
        let mut command = assert_cmd::Command::cargo_bin("gptj").expect("the program is built");
        command.args(["generate", "-n", "1", "--greedy", "--prompt", "O Romeo"]).env("GPTJ_CACHE_DIR", cache_dir);
        let output = command.assert().success().get_output().clone();
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"))
    };
    let [text, stderr] = generate(&kept);
    let has_pipelines = gpu.info().backend == "vulkan";
    assert_eq!(kept.exists() && !files(&kept).is_empty(), has_pipelines, "{stderr}");
    let [again, _] = generate(&kept);
    assert_eq!(again, text);

    let [unkept, stderr] = generate(&file.join("below"));
    assert_eq!(unkept, text, "the text does not depend on what can be written");
    assert_eq!(stderr.contains("note: the next start will be no faster: cannot write "), has_pipelines, "{stderr}");
}
