//! The shortest program: one prompt, one text.
//!
//! ```text
//! cargo run --release --example minimal -- gpt-j-6b "In a shocking finding,"
//! ```

use std::path::PathBuf;

use gptj::{
    Checkpoint, Error, GenerateOptions, Generation, Gpu, GpuOptions, LoadOptions, Model, SamplingOptions, Tokenizer,
};

async fn run(directory: PathBuf, prompt: &str) -> Result<String, Error> {
    let gpu = Gpu::open(&GpuOptions::default()).await?;
    let checkpoint = Checkpoint::open(&directory)?;
    let tokenizer = Tokenizer::open(&directory, checkpoint.config().vocab_size)?.expect("the model has a tokenizer");
    let mut model = Model::load(&gpu, &checkpoint, &LoadOptions::default(), |_| ()).await?;

    let options = GenerateOptions {
        max_new_tokens: Some(40),
        sampling: SamplingOptions { temperature: 0.8, seed: 1, ..SamplingOptions::default() },
        ..GenerateOptions::default()
    };
    let mut text = prompt.to_owned();
    let mut generation = Generation::new(&mut model, Some(&tokenizer), &tokenizer.encode(prompt)?, &options)?;
    while let Some(token) = generation.next().await? {
        text += &token.text;
    }
    Ok(text)
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_else(|| "models/shakespeare".to_owned());
    let prompt = arguments.next().unwrap_or_else(|| "Ham. To be, or not".to_owned());
    // Any executor will do.
    println!("{}", pollster::block_on(run(directory.into(), &prompt))?);
    Ok(())
}
