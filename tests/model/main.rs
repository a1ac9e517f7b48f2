//! Whole models on the GPU: against Hugging Face transformers, and the properties that every model must have.

mod cache;
mod callbacks;
mod classes;
mod codegen;
#[path = "../common/mod.rs"]
mod common;
mod engine;
mod equalities;
mod errors;
mod full_size;
mod hidden_states;
mod likelihood;
mod lora;
mod resources;
mod sampling;
mod stages;

use gptj::{Checkpoint, Class, Gpu, LoadOptions, Model, Tokenizer};

use crate::common::golden;
use crate::common::transformers::load;

/// The language models of the goldens.
const LANGUAGE_MODELS: [&str; 7] =
    ["tiny", "wide_head", "narrow_mlp", "odd_widths", "whole_head", "sharded", "shakespeare"];

/// The goldens of language models in `classes`: each model's, and one of a longer text.
fn language_model_texts() -> impl Iterator<Item = &'static str> {
    LANGUAGE_MODELS.into_iter().chain(["shakespeare_200"])
}

/// The model of a golden.
fn load_golden(gpu: &Gpu, name: &str, options: &LoadOptions) -> Model {
    let checkpoint = Checkpoint::open(&golden::model(name)).unwrap_or_else(|error| panic!("{error}"));
    load(gpu, &checkpoint, options)
}

/// The model of a golden as one of Hugging Face's classes.
fn load_as(gpu: &Gpu, name: &str, class: Class) -> Model {
    let checkpoint = Checkpoint::open_as(&golden::model(name), class).unwrap_or_else(|error| panic!("{error}"));
    load(gpu, &checkpoint, &LoadOptions::default())
}

fn demo_tokenizer() -> Tokenizer {
    Tokenizer::open(&golden::model("shakespeare"), 1024).expect("a tokenizer").expect("it has one")
}

/// Tokens of a made-up text.
fn prompt(length: usize, vocab_size: usize) -> Vec<u32> {
    (0..length).map(|i| ((i * i * 31 + i * 7 + 3) % vocab_size) as u32).collect()
}
