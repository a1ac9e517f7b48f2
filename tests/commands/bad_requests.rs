//! What the program says to options, texts and tokens that it cannot use, and where there is no GPU for them.
//!
//! What can be found out without a GPU is tested where there is none.

use serde_json::{Value, json};

use crate::common::gpu::gpu;
use crate::common::model_dir::{ModelDir, Tensors, text};
use crate::common::program::{gptj, gptj_without_gpu, run_json};
use crate::refusal::assert_refused;

// ---- prompts ----

#[test]
fn prompts_that_cannot_be_continued_are_refused() {
    let files = ModelDir::empty().with("empty.txt", "\n").with("binary.txt", b"caf\xe9");
    let path = |file: &str| text(&files.file(file)).to_owned();
    let too_long = "1,".repeat(512) + "1";
    for (option, value, words) in [
        ("--prompt-file", path("binary.txt").as_str(), &["cannot read the text from", "binary.txt", "UTF-8"][..]),
        ("--prompt-file", &path("absent.txt"), &["cannot read the text from", "absent.txt"]),
        ("--prompt-tokens", "1,1024,2", &["token 1024 is not in the vocabulary of 1024"]),
        ("--prompt-tokens", &too_long, &["the prompt has 513 tokens", "context is 256; shorten it by 257"]),
    ] {
        assert_refused(option, &mut gptj_without_gpu(&["generate", option, value]), 1, words);
    }
    let words = ["standard input", "UTF-8"];
    assert_refused("standard input", gptj_without_gpu(&["generate"]).write_stdin(b"caf\xe9"), 1, &words);
    let sound = ModelDir::sound();
    let mut command = gptj_without_gpu(&["generate", "--model", sound.text(), "--prompt", "text"]);
    assert_refused(
        "no tokenizer",
        &mut command,
        1,
        &["has no tokenizer.json and no vocab.json", "token ids in place of text"],
    );
}

#[test]
fn texts_and_ids_that_are_no_tokens_are_refused() {
    let model = ModelDir::sound();
    for (arguments, code, word) in [
        (&["--decode", "1024"][..], 1, "token 1024 is not in the vocabulary of 1024"),
        (&["--decode", "1,x"], 2, "invalid value '1,x' for '--decode <IDS>': \"x\" is not a token id"),
        (&["--decode", "1", "text"], 2, "--decode"),
        (&["--model", model.text(), "text"], 1, "has no tokenizer.json and no vocab.json"),
    ] {
        let arguments = [&["tokenize"], arguments].concat();
        assert_refused(&format!("{arguments:?}"), &mut gptj_without_gpu(&arguments), code, &[word]);
    }
}

// ---- options ----

#[test]
fn options_out_of_range_are_refused() {
    for (arguments, words) in [
        (&["--temperature", "-1"][..], &["temperature: -1 is not a positive number", "ask for greedy"][..]),
        (&["--temperature", "nan"], &["temperature: NaN", "positive"]),
        (&["--temperature", "inf"], &["temperature: inf", "positive"]),
        (&["--temperature", "warm"], &["invalid value 'warm' for '--temperature <T>'"]),
        (&["--typical-p", "0"], &["typical_p: 0", "above 0 and at most 1"]),
        (&["--top-p", "2"], &["top_p: 2", "not between 0 and 1"]),
        (&["--top-p", "nan"], &["top_p: NaN", "not between 0 and 1"]),
        (&["--top-k", "-1"], &["invalid value '-1' for '--top-k <K>'"]),
        (&["--repetition-penalty", "0"], &["repetition_penalty: 0", "positive"]),
        (&["--repetition-penalty", "-2"], &["repetition_penalty: -2", "positive"]),
        (&["--repetition-penalty", "inf"], &["repetition_penalty: inf", "positive"]),
        (&["--max-new-tokens", "0"], &["max_new_tokens: 0", "at least 1"]),
        (&["-n", "-1"], &["invalid value '-1' for '--max-new-tokens <N>'"]),
        (&["--seed", "-1"], &["invalid value '-1' for '--seed <S>'"]),
        (&["--stop", ""], &["stop: a stop string is empty"]),
        (&["--stop", "x", "--stop", ""], &["stop: a stop string is empty"]),
        (&["--prompt-tokens", "1,,2"], &["invalid value '1,,2' for '--tokens <IDS>': \"\" is not a token id"]),
        (&["--prompt-tokens", "4294967296"], &["invalid value '4294967296' for '--tokens <IDS>'"]),
        (&["--no-such-flag"], &["unexpected argument '--no-such-flag'"]),
        (&["--greedy", "--temperature", "1"], &["'--greedy' cannot be used with", "--temperature"]),
        (&["--greedy", "--seed", "1"], &["'--greedy' cannot be used with", "--seed"]),
        (&["--prompt", "a", "--prompt-file", "b"], &["'--text <TEXT>' cannot be used with", "--file"]),
        (&["--prompt", "a", "--prompt-tokens", "1"], &["'--text <TEXT>' cannot be used with", "--tokens"]),
    ] {
        let arguments = [&["generate"], arguments].concat();
        let mut command = gptj_without_gpu(&arguments);
        assert_refused(&format!("{arguments:?}"), command.write_stdin("text"), 2, words);
    }
}

#[test]
fn a_stop_string_needs_a_tokenizer() {
    if gpu().is_none() {
        return;
    }
    let model = ModelDir::sound();
    let mut command = gptj(&["generate", "--model", model.text(), "--prompt-tokens", "1", "--stop", "x"]);
    assert_refused("no tokenizer", &mut command, 2, &["stop: the model has no tokenizer"]);
}

#[test]
fn commands_that_do_not_exist_are_refused() {
    assert_refused("a command", &mut gptj(&["summon"]), 2, &["unrecognized subcommand 'summon'"]);
    assert_refused("a shell", &mut gptj(&["completions", "tcl"]), 2, &["invalid value 'tcl'", "bash"]);
}

/// What is wrong is said before anything is loaded, and on which line of a file.
#[test]
fn arguments_at_fault_are_named() {
    let directory = ModelDir::empty();
    let file = |name: &str, contents: &str| {
        std::fs::write(directory.file(name), contents).expect("a file");
        text(&directory.file(name)).to_owned()
    };
    let [base, label] = ["base", "single_label"].map(|name| format!("tests/golden/classes/{name}"));
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["score", "--tokens", "1,5000"], 1, &["token 5000 is not in the vocabulary of 1024"]),
        (&["score", "--text", ""], 1, &["the prompt is empty"]),
        (&["score", "--file", "no/such/file"], 1, &["cannot read the text from no/such/file"]),
        (&["perplexity", "no/such/file"], 1, &["cannot read the text from no/such/file"]),
        (&["perplexity", "--tokens", "1"], 1, &["the text has 1 tokens"]),
        (&["perplexity", "--tokens", "1,2", "--context", "1000"], 2, &["context: 1000 is not between 2 and"]),
        (&["perplexity", "--tokens", "1,2", "--context", "8", "--stride", "9"], 2, &["stride: 9 is not between 1 and"]),
        (&["perplexity", "x", "--text", "y"], 2, &["cannot be used with"]),
        (&["classify", "--text", "x"], 1, &["GPTJForSequenceClassification: use `gptj generate`"]),
        (&["answer", "--question", "x", "--context", "y"], 1, &["GPTJForQuestionAnswering: use `gptj generate`"]),
        (&["answer", "--context", "y"], 2, &["--question"]),
        (&["generate", "--model", &base, "--tokens", "1"], 1, &["GPTJForCausalLM: use `gptj embed`"]),
        (&["generate", "--model", &label, "--tokens", "1"], 1, &["GPTJForCausalLM: use `gptj classify`"]),
        (&["embed", "--texts", "x", "--text", "y"], 2, &["cannot be used with"]),
        (&["embed", "--text", "x", "--pooling", "max"], 2, &["invalid value 'max'"]),
        (&["hidden-states", "--text", "x"], 2, &["--out <FILE>"]),
        (&["generate", "--prompts", &file("a", "To be\n{\n"), "--top-p", "2"], 2, &["top_p: 2"]),
        (&["generate", "--prompts", &file("b", "\n\n")], 1, &["has no texts"]),
        (&["generate", "--prompts", &file("h", "[{\"prompt\": \"a\"}]")], 1, &["is a JSON list"]),
        (&["generate", "--text", "a", "--greedy", "--num-return-sequences", "2"], 2, &["would all be the same"]),
        (&["score", "--tokens", "1,,2"], 2, &["\"\" is not a token id"]),
        (&["score", "--tokens", ""], 2, &["there are no token ids"]),
        (&["embed", "--texts", &file("m", "[\"a\", \"b\"]")], 1, &["is a JSON list"]),
        (&["score", "--tokens", "-1"], 2, &["\"-1\" is not a token id"]),
        (&["generate", "--prompts", "x", "--text", "y"], 2, &["cannot be used with"]),
        (&["generate", "--text", "a", "--num-return-sequences", "0"], 2, &["num_return_sequences: 0 is not from 1"]),
        (&["generate", "--text", "a", "--num-return-sequences", "100000000"], 2, &["from 1 to 100000"]),
        (&["generate", "--text", "a", "--batch", "0"], 2, &["0 is not in 1..=1024"]),
        (&["generate", "--text", "a", "--scores"], 2, &["scores: only JSON has them"]),
        (&["generate", "--text", "a", "--eos-token-id", "5000"], 2, &["eos_token_id: token 5000"]),
        (&["generate", "--text", "a b c", "--max-length", "2"], 2, &["max_length: 2 leaves no room"]),
        (&["generate", "--text", "a", "--logit-bias", "x"], 2, &["must be a token id and a number"]),
        (&["generate", "--text", "a", "--exponential-decay-length-penalty", "5"], 2, &["must be a number of tokens"]),
        (&["generate", "--text", "a", "--suppress-tokens", "9999"], 2, &["suppress_tokens: token 9999"]),
        (&["repl", "--typical-p", "0"], 2, &["typical_p: 0"]),
    ];
    for (arguments, code, words) in cases {
        // Nothing of this needs a GPU.
        assert_refused(&format!("{arguments:?}"), gptj_without_gpu(arguments).write_stdin(""), *code, words);
    }
}

// ---- GPUs ----

#[test]
fn a_machine_without_a_gpu_is_told_what_to_install() {
    let words = ["no GPU found: install a driver for Vulkan, Metal or DX12"];
    let generate = ["generate", "--prompt-tokens", "1"];
    assert_refused("no API", &mut gptj_without_gpu(&generate), 1, &words);
    assert_refused("info of a GPU", &mut gptj_without_gpu(&["info", "--gpu", "0"]), 1, &words);
    #[cfg(target_os = "linux")]
    {
        let mut command = gptj(&generate);
        command.env("WGPU_BACKEND", "vulkan").env("VK_DRIVER_FILES", "/nowhere").env("VK_ICD_FILENAMES", "/nowhere");
        assert_refused("no driver", &mut command, 1, &words);
    }
}

#[test]
fn a_missing_gpu_is_answered_with_a_list() {
    let Some(gpu) = gpu() else { return };
    let list = format!("{}: {}", gpu.info().index, gpu.info());
    for (wanted, word) in [
        ("99", "no GPU with index 99"),
        ("99999999999999999999", "no GPU whose name contains \"99999999999999999999\""),
        ("-1", "no GPU whose name contains \"-1\""),
        ("Abacus 9000", "no GPU whose name contains \"Abacus 9000\""),
    ] {
        for command in [&["generate", "--prompt-tokens", "1"][..], &["info"]] {
            let arguments = [command, &["--gpu", wanted]].concat();
            assert_refused(&format!("{arguments:?}"), &mut gptj(&arguments), 1, &[word, &list]);
        }
    }
    let mut command = gptj(&["generate", "--prompt-tokens", "1"]);
    command.env("WGPU_ADAPTER_NAME", "Abacus 9000");
    assert_refused("WGPU_ADAPTER_NAME", &mut command, 1, &["the value of WGPU_ADAPTER_NAME", &list]);
}

/// The sound model with a width of 1024, and a context so long that a block's keys take 2^31 bytes, which is more than
/// any GPU binds at once.
#[test]
fn a_cache_that_the_gpu_cannot_hold_is_refused() {
    if gpu().is_none() {
        return;
    }
    let widen = |tensors: &mut Tensors| {
        for (name, (dtype, shape, _)) in std::mem::take(&mut tensors.0) {
            tensors.zeros(
                &name,
                dtype,
                &shape.iter().map(|&size| if size == 48 { 1024 } else { size }).collect::<Vec<_>>(),
            );
        }
    };
    let config = json!({"n_embd": 1024, "n_head": 16, "n_positions": 1 << 20});
    let model = ModelDir::sound().with_config(&config).with_tensors(widen);
    let mut command = gptj(&["generate", "--model", model.text(), "--prompt-tokens", "1"]);
    command.args(["--context", "1048576"]);
    let words = ["not enough GPU memory for a context of 1048576", "cache 8.59 GB", "a context of", "fits"];
    assert_refused("a long context", &mut command, 1, &words);

    let info: Value = run_json(&mut gptj(&["info", "--json", "--context", "1048576", "--model", model.text()]));
    assert_ne!(info["fits"], true);
    // Unless it is asked for, the context is as long as fits.
    let info: Value = run_json(&mut gptj(&["info", "--json", "--model", model.text()]));
    assert!(info["context"].as_u64().is_some_and(|context| (32..1 << 20).contains(&context)), "{info}");
    assert_ne!(info["fits"], false);
}
