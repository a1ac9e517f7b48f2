//! A text that is shown while it grows, on a thread of its own, and that its reader stops when it has seen enough.
//!
//! ```text
//! cargo run --release --example streaming -- gpt-j-6b "In a shocking finding,"
//! ```

use std::io::Write;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use gptj::{
    Checkpoint, Error, GenerateOptions, Generation, Gpu, GpuOptions, LoadOptions, Model, SamplingOptions, Tokenizer,
};

fn load(directory: &Path) -> Result<(Model, Tokenizer), Error> {
    let checkpoint = Checkpoint::open(directory)?;
    let tokenizer = Tokenizer::open(directory, checkpoint.config().vocab_size)?.expect("the model has a tokenizer");
    let model = pollster::block_on(async {
        let gpu = Gpu::open(&GpuOptions::default()).await?;
        Model::load(&gpu, &checkpoint, &LoadOptions::default(), |_| ()).await
    })?;
    Ok((model, tokenizer))
}

/// Sends pieces of text until the text ends or nobody listens any more.
fn write(mut model: Model, tokenizer: &Tokenizer, prompt: &str, listener: &mpsc::Sender<String>) -> Result<(), Error> {
    let sampling = SamplingOptions { temperature: 0.8, seed: 2, ..SamplingOptions::default() };
    let options = GenerateOptions { max_new_tokens: Some(400), sampling, ..GenerateOptions::default() };
    let mut text = Generation::new(&mut model, Some(tokenizer), &tokenizer.encode(prompt)?, &options)?;
    while let Some(token) = pollster::block_on(text.next())? {
        if listener.send(token.text).is_err() {
            // A generation can be dropped at any token.
            break;
        }
    }
    Ok(())
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_else(|| "models/shakespeare".to_owned());
    let prompt = arguments.next().unwrap_or_else(|| "Rom. But soft!".to_owned());
    let (model, tokenizer) = load(directory.as_ref())?;

    let (sender, pieces) = mpsc::channel();
    print!("{prompt}");
    let writer = thread::spawn(move || write(model, &tokenizer, &prompt, &sender));
    let mut lines = 0;
    for piece in pieces {
        print!("{piece}");
        _ = std::io::stdout().flush();
        lines += piece.matches('\n').count();
        // Four lines are enough; leaving the loop closes the channel.
        if lines >= 4 {
            break;
        }
    }
    println!();
    writer.join().expect("the writer does not panic")
}
