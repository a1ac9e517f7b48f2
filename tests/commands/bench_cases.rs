//! Which kernels `gptj bench kernels` measures: lists, filters, shapes, rows and depths.

use serde_json::Value;

use crate::common::gpu::gpu;
use crate::common::program::{finish, gptj, gptj_without_gpu, run, run_json};

fn list(arguments: &[&str]) -> Vec<String> {
    let command = [&["bench", "kernels", "--list"], arguments].concat();
    run(&mut gptj(&command)).0.lines().map(str::to_owned).collect()
}

fn cases(arguments: &[&str]) -> Vec<Value> {
    let command = [&["bench", "kernels", "--json"], arguments].concat();
    let report: Value = run_json(&mut gptj(&command));
    report["cases"].as_array().expect("a list").clone()
}

fn names(cases: &[Value]) -> Vec<&str> {
    cases.iter().map(|case| case["name"].as_str().expect("a name")).collect()
}

#[test]
fn lists_name_what_would_be_measured() {
    let Some(_) = gpu() else { return };
    let all = list(&["--shapes", "6b"]);
    for name in ["layer_norm 4096, rows 512", "block_in 28672x4096 gemv, rows 1", "lm_head 50400x4096 gemv, rows 8"] {
        assert!(all.iter().any(|listed| listed == name), "{name} in {all:?}");
    }
    let some = ["--shapes", "demo", "--rows", "1,33", "norm", "argmax"];
    assert_eq!(list(&some), names(&cases(&some)));
    let as_json: Vec<String> = run_json(&mut gptj(&[&["bench", "kernels", "--list", "--json"], &some[..]].concat()));
    assert_eq!(as_json, list(&some));

    let (code, _, message) = finish(&mut gptj_without_gpu(&["bench", "kernels", "--list"]));
    assert!(code == 1 && message.contains("no GPU found"), "{message}");
    let (help, _) = run(&mut gptj(&["bench", "kernels", "--help"]));
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("They depend on the GPU, but nothing runs on it"), "{help}");
}

#[test]
fn a_case_passes_with_any_filter_in_any_case() {
    let Some(_) = gpu() else { return };
    let kernels = |filters: &[&str]| {
        let listed = list(&[&["--shapes", "tiny", "--rows", "1"], filters].concat());
        listed.iter().map(|name| name.split(' ').next().expect("a kernel").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kernels(&["ArgMax", "LM_HEAD"]), ["lm_head", "argmax"]);
    assert_eq!(kernels(&["argmax", "--filter", "lm_head"]), ["lm_head", "argmax"], "--filter is one more");
    assert_eq!(kernels(&[" 256, ROWS 1"]), ["layer_norm", "layer_norm_outputs"].map(str::to_owned));
    assert!(kernels(&[]).len() > 10);
}

/// Shapes that fill no panel, no tile and no octet of inputs.
#[test]
fn matmuls_have_any_shape() {
    let Some(_) = gpu() else { return };
    let measured = cases(&["--shape", "100x77,1x1", "--shape", "33X1000", "--rows", "1-40*40"]);
    for (shape, size) in [("100x77", 7700), ("1x1", 1), ("33x1000", 33_000)] {
        for rows in [1, 40] {
            let name = format!("lm_head {shape} gemv, rows {rows}");
            let case =
                measured.iter().find(|case| case["name"] == name).unwrap_or_else(|| panic!("{name}: {measured:?}"));
            assert_eq!((&case["correct"], case["flops"].as_u64()), (&true.into(), Some(2 * size * rows)), "{case}");
        }
        let name = format!("lm_head {shape} tiled, rows 40");
        assert!(measured.iter().any(|case| case["name"] == name && case["correct"] == true), "{name}");
    }
    assert!(measured.iter().all(|case| case["kernel"] == "lm_head"), "nothing else is measured");
}

#[test]
fn attention_looks_back_as_far_as_asked() {
    let Some(_) = gpu() else { return };
    // The model's own context is 512.
    let measured = cases(&["--shapes", "demo", "--rows", "1,40", "--depth", "1000,300", "attention"]);
    let flops = |name: &str| {
        let case = measured.iter().find(|case| case["name"] == name).unwrap_or_else(|| panic!("{name}: {measured:?}"));
        assert_eq!(case["correct"], true, "{case}");
        case["flops"].as_u64()
    };
    // Scores and sums: two products of 256 numbers for each position seen.
    assert_eq!(flops("attention 4x64, rows 1, positions 1000"), Some(4 * 256 * 1000));
    assert_eq!(flops("attention 4x64, rows 1, positions 300"), Some(4 * 256 * 300));
    assert_eq!(flops("attention_weights 4x64, rows 1, positions 1000"), Some(2 * 256 * 1000));
    // The rows of a prompt see 261 to 300 positions.
    assert_eq!(flops("flash_attention 4x64, rows 40, positions 300"), Some(4 * 256 * (261 + 300) * 40 / 2));
}

/// Keys and values of 32 sequences of a million positions are larger than any binding.
#[test]
fn what_finds_no_room_is_left_out() {
    let Some(_) = gpu() else { return };
    let deep =
        ["bench", "kernels", "--shapes", "demo", "--rows", "32", "--depth", "1048576", "--json", "merge_attention"];
    let (code, stdout, stderr) = finish(&mut gptj(&[&deep[..], &["argmax"]].concat()));
    assert_eq!(code, 0, "{stderr}");
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    let name = "merge_attention 4x64, rows 32, positions 1048576";
    assert_eq!(names(report["cases"].as_array().expect("a list")), ["argmax 1024, rows 32"]);
    assert_eq!(names(report["left_out"].as_array().expect("a list")), [name]);
    assert!(stderr.contains(&format!("left out: {name}: not enough GPU memory")), "{stderr}");

    let (code, _, stderr) = finish(&mut gptj(&deep));
    assert!(code == 1 && stderr.contains("none of the selected cases fits this GPU"), "{stderr}");
}

#[test]
fn impossible_selections_are_named() {
    for (arguments, word) in [
        (&["--shape", "4096"][..], "4096x16384"),
        (&["--shape", "0x8"], "0x8"),
        (&["--shape", "8x8", "--shapes", "tiny"], "--shapes"),
        (&["--shape", "8x8", "--depth", "8"], "--depth"),
        (&["--rows", "8-1"], "upwards"),
        (&["--rows", "4097"], "4097"),
        (&["--depth", "0"], "0"),
        (&["--tune", "--list"], "--list"),
        (&["--tune", "argmax"], "--tune"),
    ] {
        let (code, _, message) = finish(&mut gptj(&[&["bench", "kernels"], arguments].concat()));
        assert!(code == 2 && message.contains(word), "{arguments:?}: {code} {message}");
    }
}

/// Names of the first version still find their cases, and its reports still compare.
#[test]
fn earlier_names_are_understood() {
    let Some(_) = gpu() else { return };
    for (earlier, name) in [("vector", "gemv"), ("tile", "tiled"), ("embed", "token_embedding")] {
        let found = list(&["--shapes", "tiny", earlier]);
        assert!(!found.is_empty() && found.iter().all(|case| case.contains(name)), "{earlier}: {found:?}");
        assert_eq!(found, list(&["--shapes", "tiny", name]), "{earlier} is {name}");
    }
}
