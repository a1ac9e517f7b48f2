//! Labels of texts with a `GPTJForSequenceClassification`. Without arguments, it takes a model of random weights and
//! some token ids.
//!
//! ```text
//! cargo run --release --example classification -- my-classifier "What a lovely day."
//! ```

use std::path::Path;

use gptj::{Checkpoint, Class, Error, Gpu, GpuOptions, LoadOptions, Model, Tokenizer};

async fn run(directory: &Path, text: Option<&str>) -> Result<Vec<(String, f64)>, Error> {
    let gpu = Gpu::open(&GpuOptions::default()).await?;
    // As this class, whatever its configuration says.
    let checkpoint = Checkpoint::open_as(directory, Class::SequenceClassification)?;
    let config = checkpoint.config();
    let tokens = match text {
        Some(text) => {
            let tokenizer = Tokenizer::open(directory, config.vocab_size)?.expect("the model has a tokenizer");
            tokenizer.encode(text)?
        }
        None => vec![1, 2, 3, 5, 8, 13],
    };
    let mut model = Model::load(&gpu, &checkpoint, &LoadOptions::default(), |_| ()).await?;
    let found = model.classify(&tokens).await?;
    Ok(config.labels.iter().cloned().zip(found.scores).collect())
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_else(|| "tests/golden/classes/single_label".to_owned());
    let text = arguments.next();
    for (label, score) in pollster::block_on(run(directory.as_ref(), text.as_deref()))? {
        println!("{score:.4}  {label}");
    }
    Ok(())
}
