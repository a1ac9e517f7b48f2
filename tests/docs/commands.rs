//! Every command runs, and prints what the pages say it prints.

use crate::common::gpu::gpu;
use crate::pages::for_users;
use crate::workplace::Workplace;

#[test]
fn every_command_runs() {
    if gpu().is_none() {
        return;
    }
    let workplace = Workplace::new();
    let cases = trycmd::TestCases::new();
    let path = std::env::var("PATH").unwrap_or_default();
    cases.env("PATH", format!("{}:{path}", workplace.bin().display()));
    cases.register_bin("gptj", workplace.bin().join("gptj").as_path());
    cases.register_bin("sh", std::path::Path::new("/bin/sh"));
    for page in for_users() {
        cases.case(workplace.add(&page));
    }
    cases.run();
}
