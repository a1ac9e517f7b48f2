//! What the program keeps from start to start: `GPTJ_CACHE_DIR`.

use std::path::Path;

use tempfile::TempDir;

use crate::common::gpu::gpu;
use crate::common::program::{gptj, run};

#[test]
fn the_program_keeps_pipelines_where_the_environment_says() {
    let Some(gpu) = gpu() else { return };
    let directory = TempDir::new().expect("a temporary directory");
    let [kept, file] = ["kept", "file"].map(|name| directory.path().join(name));
    std::fs::write(&file, "").expect("room for an empty file");
    let generate = |cache_dir: &Path| {
        let mut command = gptj(&["generate", "-n", "1", "--greedy", "--prompt", "O Romeo"]);
        command.env("GPTJ_CACHE_DIR", cache_dir);
        command
    };
    // The first start compiles every kernel, which no other test does: drivers keep them by themselves as well.
    let mut first = generate(&kept);
    let (text, stderr) = run(first.env("MESA_SHADER_CACHE_DISABLE", "true").env("__GL_SHADER_DISK_CACHE", "0"));
    let has_pipelines = gpu.info().backend == "vulkan";
    let is_empty = |directory: &Path| std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none());
    assert_eq!(kept.exists() && !is_empty(&kept), has_pipelines, "{stderr}");
    let (again, _) = run(&mut generate(&kept));
    assert_eq!(again, text);

    let (unkept, stderr) = run(&mut generate(&file.join("below")));
    assert_eq!(unkept, text, "the text does not depend on what can be written");
    assert_eq!(stderr.contains("note: the next start will be no faster: cannot write "), has_pipelines, "{stderr}");
}
