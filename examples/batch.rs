//! Many texts at once, each with its own options; they end independently and make room for those that wait.
//!
//! ```text
//! cargo run --release --example batch -- gpt-j-6b
//! ```

use std::path::Path;

use gptj::{
    Checkpoint, Engine, Error, GenerateOptions, Gpu, GpuOptions, LoadOptions, Model, SamplingOptions, Sequence,
    Tokenizer,
};

const PROMPTS: [&str; 5] = ["Enter Ghost.", "Ham. To be", "The king is", "O Romeo,", "Exeunt"];

async fn run(directory: &Path) -> Result<Vec<String>, Error> {
    let gpu = Gpu::open(&GpuOptions::default()).await?;
    let checkpoint = Checkpoint::open(directory)?;
    let tokenizer = Tokenizer::open(directory, checkpoint.config().vocab_size)?.expect("the model has a tokenizer");
    // Four texts at a time, each of up to 64 tokens: the fifth takes the place of the first that ends.
    let options = LoadOptions { n_slots: 4, context: Some(64), ..LoadOptions::default() };
    let model = Model::load(&gpu, &checkpoint, &options, |_| ()).await?;

    let sequence = |(seed, prompt): (u64, &str)| {
        let sampling = SamplingOptions { top_p: 0.9, seed, ..SamplingOptions::default() };
        let max_new_tokens = Some(8 + 4 * seed as usize);
        let options = GenerateOptions { max_new_tokens, sampling, ..GenerateOptions::default() };
        Sequence::new(model.config(), Some(&tokenizer), &tokenizer.encode(prompt)?, &options)
    };
    let sequences = (0..).zip(PROMPTS).map(sequence).collect::<Result<Vec<_>, Error>>()?;

    let mut engine = Engine::new(model)?;
    for sequence in sequences {
        engine.add(sequence)?;
    }
    let mut texts = PROMPTS.map(str::to_owned).to_vec();
    while !engine.is_empty() {
        for (index, token) in engine.step().await? {
            // An error of one text ends that text alone.
            match token {
                Ok(token) => texts[index] += &token.text,
                Err(error) => texts[index] += &format!(" [{error}]"),
            }
        }
    }
    Ok(texts)
}

fn main() -> Result<(), Error> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "models/shakespeare".to_owned());
    for text in pollster::block_on(run(directory.as_ref()))? {
        println!("{text}\n---");
    }
    Ok(())
}
