//! Texts as vectors, and which of them are alike: the cosine of the angle between each two.
//!
//! ```text
//! cargo run --release --example embeddings -- gpt-j-6b "a cat" "a kitten" "a lorry"
//! ```

use std::path::Path;

use gptj::{Checkpoint, Class, Error, Gpu, GpuOptions, LoadOptions, Model, Pooling, Tokenizer};

async fn run(directory: &Path, texts: &[String]) -> Result<Vec<Vec<f32>>, Error> {
    let gpu = Gpu::open(&GpuOptions::default()).await?;
    // Embeddings need no head; what the checkpoint has of one stays on disk.
    let checkpoint = Checkpoint::open_as(directory, Class::Model)?;
    let tokenizer = Tokenizer::open(directory, checkpoint.config().vocab_size)?.expect("the model has a tokenizer");
    let mut model = Model::load(&gpu, &checkpoint, &LoadOptions::default(), |_| ()).await?;
    let mut embeddings = Vec::new();
    for text in texts {
        embeddings.push(model.embed(&tokenizer.encode(text)?, Pooling::WeightedMean).await?);
    }
    Ok(embeddings)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_else(|| "models/shakespeare".to_owned());
    let mut texts: Vec<String> = arguments.collect();
    if texts.is_empty() {
        texts = ["the king of France", "the queen of France", "Exeunt all"].map(str::to_owned).to_vec();
    }
    let embeddings = pollster::block_on(run(directory.as_ref(), &texts))?;
    for (text, a) in texts.iter().zip(&embeddings) {
        let row: Vec<_> = embeddings.iter().map(|b| format!("{:.3}", cosine(a, b))).collect();
        println!("{}  {text}", row.join("  "));
    }
    Ok(())
}
