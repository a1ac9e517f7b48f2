//! The program as its users run it: what each command prints, and where.
//!
//! Results are on standard output, whatever else there is to say on standard error.

mod bad_models;
mod bad_requests;
mod batches;
mod bench;
mod bench_cases;
mod bench_compare;
mod bench_llama;
mod bench_output;
mod bench_signals;
mod bench_statistics;
mod cargo_bench;
#[path = "../common/mod.rs"]
mod common;
mod convert;
mod everyday;
mod examples;
mod formats;
mod generate;
mod hub;
mod info;
mod interface;
mod lora;
mod many_texts;
mod pipeline_cache;
mod refusal;
mod repl;
mod signals;
mod terminal;
mod texts;
mod tokenize;
mod verify;
