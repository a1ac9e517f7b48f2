//! `gptj bench` as its users run it. What is measured differs from run to run and is not looked at; what is printed,
//! where the numbers stand and how the program ends does not.

use std::path::Path;

use assert_cmd::Command;
use serde_json::{Value, json};

use crate::common::gpu::gpu;
use crate::common::program::{self, finish, gptj, gptj_without_gpu};

fn run(arguments: &[&str]) -> String {
    program::run(&mut gptj(arguments)).0
}

fn run_json(arguments: &[&str]) -> Value {
    program::run_json(&mut gptj(arguments))
}

/// The exit code of a command that fails, and its message.
fn failure(command: &mut Command) -> (i32, String) {
    let (code, _, stderr) = finish(command);
    assert_ne!(code, 0, "{command:?}");
    (code, stderr)
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// Every kind of case, on the built-in model's shapes, for few rows and for many.
#[test]
fn kernels_are_right_and_timed() {
    let Some(_) = gpu() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let plot = directory.path().join("roofline.svg");
    let plot_argument = plot.to_str().expect("UTF-8");
    let report =
        run_json(&["bench", "kernels", "--shapes", "demo", "--rows", "1,33", "--json", "--plot", plot_argument]);
    assert_eq!(
        keys(&report),
        [
            "adapter",
            "cases",
            "ceilings",
            "clock",
            "commit",
            "comparison",
            "date",
            "driver",
            "interrupted",
            "left_out",
            "shapes",
            "vector",
            "version"
        ]
    );
    assert_eq!(keys(&report["ceilings"]), ["fma_gflop_per_second", "read_gb_per_second"]);
    assert!(["gpu", "host"].contains(&report["clock"].as_str().expect("a word")));
    assert_eq!((&report["shapes"], &report["comparison"]), (&json!("demo"), &Value::Null));
    let cases = report["cases"].as_array().expect("a list");
    let kernels: std::collections::BTreeSet<_> = cases.iter().map(|case| case["kernel"].as_str()).collect();
    let names: std::collections::BTreeSet<_> = cases.iter().map(|case| case["name"].as_str()).collect();
    assert_eq!(names.len(), cases.len(), "names tell cases apart");
    for kernel in [
        "token_embedding",
        "layer_norm",
        "layer_norm_outputs",
        "block_in",
        "attention",
        "merge_attention",
        "flash_attention",
        "attention_weights",
        "block_out",
        "lm_head",
        "argmax",
        "merge_lora",
    ] {
        assert!(kernels.contains(&Some(kernel)), "{kernel} is measured");
    }
    for product in ["vector", "tile"] {
        let measured = |kernel| cases.iter().any(|case| case["kernel"] == kernel && case["product"] == product);
        assert!(measured("block_in") && measured("block_out"), "{product} is measured");
    }
    for case in cases {
        assert_eq!(
            keys(case),
            [
                "bytes",
                "correct",
                "fault",
                "flops",
                "gb_per_second",
                "gflop_per_second",
                "kernel",
                "launches",
                "matmul",
                "microseconds",
                "min_microseconds",
                "name",
                "percent_of_fma",
                "percent_of_read",
                "positions",
                "product",
                "rows",
                "runs",
                "shape",
                "spread_percent"
            ]
        );
        assert_eq!((&case["correct"], &case["fault"]), (&json!(true), &Value::Null));
        assert!(case["microseconds"].is_f64() && case["bytes"].as_u64() > Some(0), "{case}");
    }

    let svg = std::fs::read_to_string(plot).expect("a plot");
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    assert!(svg.contains("GFLOP/s fma") && svg.contains("layer_norm 256"), "the roof and the points have names");
    assert!(svg.lines().any(|line| line == "33"), "points have their rows beside them");
}

/// What tuning finds is kept, and used as long as it is about these kernels and possible.
#[test]
fn what_tuning_finds_is_used() {
    let Some(_) = gpu() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let run_json =
        |arguments: &[&str]| -> Value { program::run_json(gptj(arguments).env("GPTJ_CACHE_DIR", directory.path())) };
    let used = || {
        let arguments = ["bench", "kernels", "--shapes", "tiny", "--filter", "layer_norm 256, rows 1", "--json"];
        run_json(&arguments)["vector"].clone()
    };
    let default = used();
    let report = run_json(&["bench", "kernels", "--shapes", "tiny", "--tune", "--json"]);
    assert_eq!(
        keys(&report),
        ["adapter", "clock", "commit", "date", "driver", "fastest", "kept", "shapes", "trials", "version"]
    );
    assert_eq!(report["kept"], json!(true));
    let trials = report["trials"].as_array().expect("a list");
    let lanes: std::collections::BTreeSet<_> = trials.iter().map(|trial| trial["lanes"].as_u64()).collect();
    assert_eq!(lanes.len(), 6, "every number of lanes was tried");
    assert!(trials.iter().all(|trial| trial["block_in_microseconds"].is_f64()), "{trials:?}");
    assert_eq!(used(), report["fastest"]);

    let files =
        std::fs::read_dir(directory.path()).expect("the directory").map(|entry| entry.expect("an entry").path());
    let file = files.into_iter().find(|path| path.extension().is_some_and(|end| end == "json")).expect("a table");
    let table: Value = serde_json::from_slice(&std::fs::read(&file).expect("the table")).expect("JSON");
    let used_after = |change: &dyn Fn(&mut Value)| {
        let mut table = table.clone();
        change(&mut table);
        std::fs::write(&file, table.to_string()).expect("a file");
        used()
    };
    let gemv = |lanes: u64, rows: u64, depth: u64| json!({ "lanes": lanes, "rows": rows, "depth": depth, "limit": 7 });
    let mut expected = gemv(128, 2, 4);
    expected["limit"] = default["limit"].clone();
    assert_eq!(used_after(&|table| table["gemv"] = gemv(128, 2, 4)), expected);
    for vector in [gemv(7, 2, 4), gemv(64, 3, 1), gemv(64, 1, 0), json!("fast")] {
        assert_eq!(used_after(&|table| table["gemv"] = vector.clone()), default, "{vector}");
    }
    assert_eq!(used_after(&|table| table["kernels"] = json!(1)), default, "it is about other kernels");
}

/// A case that an old run had much faster is marked, and one that only one run has is named.
#[test]
fn kernels_are_compared_with_an_old_run() {
    let Some(_) = gpu() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let old = directory.path().join("old.json");
    let arguments =
        ["bench", "kernels", "--shapes", "demo", "--rows", "1,3", "--filter", "layer_norm 256", "--compare"];
    let arguments = [&arguments[..], &[old.to_str().expect("UTF-8")]].concat();
    let cases = json!({ "shapes": "demo", "clock": "sundial", "cases": [
        { "name": "layer_norm 256, rows 1", "microseconds": 1e-9 },
        { "name": "layer_norm 256 of old", "microseconds": 7.0 },
        { "name": "layer_norm 256 that was wrong", "microseconds": null },
    ]});
    std::fs::write(&old, cases.to_string()).expect("a file");

    let report = run_json(&[&arguments[..], &["--json"]].concat());
    let comparison = &report["comparison"];
    let compared = &comparison["both"][0];
    assert_eq!(keys(compared), ["faster", "name", "new", "old", "ratio", "slower", "tolerance_percent"]);
    assert_eq!((&compared["name"], &compared["slower"]), (&json!("layer_norm 256, rows 1"), &json!(true)));
    let differs = comparison["differs"][0].as_str().expect("a line");
    assert!(differs.starts_with("clock: \"sundial\" in the old run, "), "{differs}");
    assert_eq!(comparison["only_old"], json!(["layer_norm 256 of old"]));
    assert_eq!(comparison["only_new"], json!(["layer_norm 256, rows 3"]));

    let text = run(&arguments);
    let line = |name: &str| text.lines().rfind(|line| line.contains(name)).expect("a line").to_owned();
    assert!(line("layer_norm 256, rows 1").contains("slower"), "{text}");
    assert!(line("layer_norm 256 of old").starts_with("only in the old run"), "{text}");
    assert!(line("layer_norm 256, rows 3").starts_with("only in this run"), "{text}");
    assert!(text.contains("ceilings: read"), "{text}");
}

#[test]
fn a_model_is_measured() {
    let Some(_) = gpu() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let old = directory.path().join("old.json");
    let slower = json!({ "measurements": [{ "name": "decode at depth 0", "value": 1e9 }, { "name": "making up weights", "value": 1e9 }] });
    std::fs::write(&old, slower.to_string()).expect("a file");
    let report = run_json(&[
        "bench",
        "model",
        "--synthetic",
        "tiny",
        "--context",
        "200",
        "--seconds",
        "8",
        "--json",
        "--compare",
        old.to_str().expect("UTF-8"),
    ]);
    assert_eq!(
        keys(&report),
        [
            "adapter",
            "commit",
            "comparison",
            "context",
            "date",
            "driver",
            "interrupted",
            "measurements",
            "model",
            "vector",
            "version"
        ]
    );
    assert_eq!((&report["model"], &report["context"]), (&json!("synthetic tiny"), &json!(200)));
    let measurements = report["measurements"].as_array().expect("a list");
    let value = |name: &str| {
        let found = measurements.iter().find(|measured| measured["name"] == name);
        &found.unwrap_or_else(|| panic!("{name} is missing in {report}"))["value"]
    };
    for measured in measurements {
        assert_eq!(keys(measured), ["min", "name", "runs", "spread_percent", "unit", "value"]);
        if measured["unit"] == "tok/s" {
            assert_eq!(measured["value"].is_f64(), measured["runs"].as_u64() > Some(0), "{measured}");
        }
    }
    for always in
        ["making up weights", "time to first token", "launches a token", "weights a token", "memory, engine's count"]
    {
        assert!(value(always).as_f64() > Some(0.0), "{always} is measured");
    }
    for beyond in ["decode at depth 512", "prefill of 512", "prefill of 2048"] {
        assert_eq!(value(beyond), &Value::Null, "{beyond} does not fit the context");
    }
    for there in ["decode at depth 0", "prefill of 128"] {
        assert!(value(there).as_f64() > Some(0.0), "{there} is measured");
    }
    // There may be no time left for the last of them, and a software driver says nothing of the host.
    for named in ["decode of 32 sequences", "host"] {
        value(named);
    }
    let compared = report["comparison"]["both"].as_array().expect("a list");
    let slower: Vec<_> = compared.iter().map(|entry| (entry["name"].as_str(), entry["slower"].as_bool())).collect();
    assert!(slower.contains(&(Some("making up weights"), Some(false))), "{slower:?}");
    assert!(slower.contains(&(Some("decode at depth 0"), Some(true))), "a rate that fell is slower: {slower:?}");
}

/// GPT-J-6B's step needs no room for GPT-J-6B.
#[test]
fn a_plan_needs_no_memory() {
    let Some(_) = gpu() else { return };
    let report = run_json(&["bench", "plan", "--shapes", "6b", "--depth", "100", "--json"]);
    assert_eq!(
        keys(&report),
        [
            "activation_bytes",
            "adapter",
            "commit",
            "date",
            "depth",
            "driver",
            "host_us",
            "kv_bytes",
            "launches",
            "memory",
            "rows",
            "shapes",
            "version",
            "weight_bytes"
        ]
    );
    let number = |value: &Value| value.as_u64().expect("a number");
    assert!(number(&report["launches"]) > 0);
    assert!(report["host_us"].as_f64() > Some(0.0));
    // Two bytes a parameter of a matrix and four of a vector; of the embedding, one row of 4096 is read.
    let memory = number(&report["memory"]["weights"]);
    let vectors = 28 * (2 * 4096 + 16_384 + 4096) + 2 * 4096 + 50_400;
    assert_eq!(memory, 2 * (6_050_882_784 + vectors));
    assert_eq!(number(&report["weight_bytes"]), memory - 2 * (50_400 - 1) * 4096);
    assert_eq!(number(&report["kv_bytes"]), 101 * 458_752);
    assert!(number(&report["activation_bytes"]) < 200_000_000);

    let text = run(&["bench", "plan", "--shapes", "demo", "--rows", "20"]);
    assert!(text.contains("a step of 20 rows after 0 positions"), "{text}");
}

#[test]
fn bad_arguments_are_named() {
    for (arguments, word) in [
        (&["bench"][..], "kernels"),
        (&["bench", "kernels", "--shapes", "7b"], "7b"),
        (&["bench", "kernels", "--rows", "0"], "0"),
        (&["bench", "kernels", "--rows", "1,x"], "x"),
        (&["bench", "kernels", "--tune", "--rows", "1"], "--tune"),
        (&["bench", "model", "--synthetic", "tiny", "--model", "somewhere"], "--model"),
        (&["bench", "model", "--synthetic", "tiny", "--context", "9999"], "context"),
        (&["bench", "model", "--synthetic", "tiny", "--context", "3"], "context"),
        (&["bench", "model", "--seconds", "0"], "--seconds"),
        (&["bench", "plan", "--shapes", "demo", "--depth", "512"], "depth"),
        (&["bench", "plan", "--rows", "-1"], "--rows"),
    ] {
        let (code, message) = failure(&mut gptj(arguments));
        assert_eq!(code, 2, "{arguments:?}: {message}");
        assert!(message.contains(word), "{arguments:?}: {message}");
    }
}

#[test]
fn bad_files_are_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
    std::fs::write(path("text"), "not JSON").expect("a file");
    std::fs::write(path("model"), r#"{"measurements": []}"#).expect("a file");
    std::fs::write(path("nameless"), r#"{"cases": [{"microseconds": 1}]}"#).expect("a file");
    let elsewhere = Path::new("missing").join("plot.svg");
    for (option, file, word) in [
        ("--compare", path("missing"), "cannot read"),
        ("--compare", path("text"), "JSON"),
        ("--compare", path("model"), "cases"),
        ("--compare", path("nameless"), "no name"),
        ("--plot", path(elsewhere.to_str().expect("UTF-8")), "cannot write"),
    ] {
        let (code, message) = failure(&mut gptj(&["bench", "kernels", "--shapes", "demo", option, &file]));
        assert_eq!(code, 1, "{message}");
        assert!(message.contains(&file) && message.contains(word), "{message}");
    }
    let (code, message) = failure(&mut gptj(&["bench", "kernels", "--shapes", "demo", "--filter", "no such"]));
    assert!(code == 1 && message.contains("no case is selected"), "{message}");
    let (code, message) = failure(&mut gptj_without_gpu(&["bench", "kernels", "--shapes", "demo"]));
    assert!(code == 1 && message.contains("no GPU found"), "{message}");
}
