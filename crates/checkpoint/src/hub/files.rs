//! The files of a repository that a model needs.

use std::path::Path;

use crate::formats::shards;
use crate::message::list;

/// Small files, fetched if the repository has them.
const SETTINGS: [&str; 4] =
    ["config.json", "generation_config.json", "special_tokens_map.json", "tokenizer_config.json"];

/// A tokenizer in one file, or in parts.
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_PARTS: [&str; 3] = ["vocab.json", "merges.txt", "added_tokens.json"];

/// Weights in one file, or the index of their shards; the first that exists is used.
const WEIGHTS: [(&str, &str); 2] =
    [("model.safetensors", "model.safetensors.index.json"), ("pytorch_model.bin", "pytorch_model.bin.index.json")];

/// Weights in a repository.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Weights {
    Whole(&'static str),
    /// In the files that this index names.
    Shards(&'static str),
}

/// The files to fetch, except the weights.
pub(super) fn settings(files: &[String]) -> Vec<&'static str> {
    let has = |name: &str| files.iter().any(|file| file == name);
    let tokenizer = if has(TOKENIZER) { &[TOKENIZER][..] } else { &TOKENIZER_PARTS };
    SETTINGS.iter().chain(tokenizer).copied().filter(|name| has(name)).collect()
}

/// The weights; the error says why there are none.
pub(super) fn weights(files: &[String]) -> Result<Weights, String> {
    let has = |name: &str| files.iter().any(|file| file == name);
    let found = WEIGHTS.into_iter().find_map(|(whole, index)| {
        if has(whole) { Some(Weights::Whole(whole)) } else { has(index).then_some(Weights::Shards(index)) }
    });
    found.filter(|_| has("config.json")).ok_or_else(|| {
        let gguf = ggufs(files);
        if gguf.is_empty() {
            "it has no config.json with a model.safetensors or a pytorch_model.bin, whole or in shards".to_owned()
        } else {
            format!(
                "it has GGUF files only; name one of them after a colon, by its quantization or in full: {}",
                list(&gguf)
            )
        }
    })
}

fn ggufs(files: &[String]) -> Vec<String> {
    files.iter().filter(|file| file.ends_with(".gguf")).cloned().collect()
}

/// The file with this name, or the only GGUF file whose name ends in this quantization.
pub(super) fn named(name: &str, files: &[String]) -> Result<String, String> {
    if files.iter().any(|file| file == name) {
        return Ok(name.to_owned());
    }
    let is_of_quantization = |file: &&String| {
        let stem = file.strip_suffix(".gguf").unwrap_or_default();
        let quantization = stem.rsplit(['-', '.']).next().unwrap_or_default();
        quantization.eq_ignore_ascii_case(name)
    };
    let mut found: Vec<String> = files.iter().filter(is_of_quantization).cloned().collect();
    match (found.pop(), found.as_slice()) {
        (Some(file), []) => Ok(file),
        (Some(file), others) => {
            Err(format!("'{name}' can be any of these files; name it in full: {}, {file}", list(others)))
        }
        (None, _) => match ggufs(files).as_slice() {
            [] => Err(format!("it has no file '{name}' and no GGUF files")),
            gguf => Err(format!("it has no file '{name}'; its GGUF files: {}", list(gguf))),
        },
    }
}

/// Fails with the reason unless a directory has a configuration.
pub(super) fn check_config(directory: &Path) -> Result<(), String> {
    if directory.join("config.json").exists() { Ok(()) } else { Err("config.json is not there".to_owned()) }
}

/// Fails with the reason unless a directory has complete weights of one kind. They are fetched last, so a directory
/// that has them has everything.
pub(super) fn check_weights(directory: &Path) -> Result<(), String> {
    let has = |name: &str| directory.join(name).exists();
    for (whole, index) in WEIGHTS {
        if has(whole) {
            return Ok(());
        }
        if has(index) {
            let shards = shards::names(&directory.join(index)).map_err(|error| error.to_string())?;
            let missing: Vec<_> = shards.into_iter().filter(|name| !has(name)).collect();
            return if missing.is_empty() { Ok(()) } else { Err(format!("{} not there", list(&missing))) };
        }
    }
    Err("the weights are not there".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn only_one_kind_of_weights_of_gpt_j_6b_is_fetched() {
        let main = names(&[
            ".gitattributes",
            "README.md",
            "added_tokens.json",
            "config.json",
            "flax_model.msgpack",
            "merges.txt",
            "pytorch_model.bin",
            "special_tokens_map.json",
            "tf_model.h5",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.json",
        ]);
        let expected = ["config.json", "special_tokens_map.json", "tokenizer_config.json", "tokenizer.json"];
        assert_eq!(settings(&main), expected);
        assert_eq!(weights(&main), Ok(Weights::Whole("pytorch_model.bin")));
    }

    #[test]
    fn safetensors_come_first_and_a_whole_file_before_shards() {
        let kinds =
            ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
        let expected =
            [Weights::Whole(kinds[0]), Weights::Shards(kinds[1]), Weights::Whole(kinds[2]), Weights::Shards(kinds[3])];
        for (index, expected) in expected.into_iter().enumerate() {
            assert_eq!(weights(&names(&[&["config.json"], &kinds[index..]].concat())), Ok(expected));
        }
        let others = weights(&names(&["config.json", "tf_model.h5", "flax_model.msgpack"]));
        assert!(others.is_err_and(|reason| reason.contains("no config.json with a model.safetensors")));
    }

    #[test]
    fn without_a_tokenizer_json_its_parts_are_fetched() {
        let files = names(&["config.json", "vocab.json", "merges.txt", "model.safetensors"]);
        assert_eq!(settings(&files), ["config.json", "vocab.json", "merges.txt"]);
    }

    #[test]
    fn a_gguf_file_is_named_in_full_or_by_its_quantization() {
        let files = names(&["README.md", "gpt-j-6b.Q4_0.gguf", "gpt-j-6b-q8_0.gguf", "q8_0/other-f16.gguf"]);
        assert_eq!(named("Q8_0", &files).as_deref(), Ok("gpt-j-6b-q8_0.gguf"));
        assert_eq!(named("q4_0", &files).as_deref(), Ok("gpt-j-6b.Q4_0.gguf"));
        assert_eq!(named("q8_0/other-f16.gguf", &files).as_deref(), Ok("q8_0/other-f16.gguf"));
        assert!(named("Q5_0", &files).is_err_and(|reason| reason.contains("gpt-j-6b.Q4_0.gguf")));
        assert!(
            named("F16", &[files, names(&["a-f16.gguf"])].concat()).is_err_and(|reason| reason.contains("in full"))
        );
        let reason = weights(&names(&["a-q8_0.gguf"])).expect_err("no weights of Hugging Face's");
        assert!(reason.contains("GGUF files only") && reason.contains("a-q8_0.gguf"), "{reason}");
    }
}
