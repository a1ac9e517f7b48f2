//! From arguments to a model on a GPU.

use clap::Args;
use gptj::{Checkpoint, Class, Config, Error, Gpu, GpuOptions, LoadOptions, Model, Selector, Tokenizer};

use super::tuned::tuned;
use super::{
    LoraArguments, ModelArguments, TokenizerArguments, cache_dir, note, note_wrong_matrix_units, progress_bar, show,
};

/// The model that a command runs.
#[derive(Args)]
pub(crate) struct Source {
    #[command(flatten)]
    pub(crate) model: ModelArguments,

    #[command(flatten)]
    pub(crate) tokenizer: TokenizerArguments,

    #[command(flatten)]
    lora: LoraArguments,
}

/// A model's files, opened.
pub(crate) struct Opened {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) tokenizer: Option<Tokenizer>,
}

impl Source {
    /// Opens the model as one of this class.
    pub(crate) fn open(&self, class: Class) -> anyhow::Result<Opened> {
        let checkpoint = self.lora.add_to(self.model.checkpoint_as(class)?)?;
        let tokenizer = self.tokenizer.open(&self.model, checkpoint.config().vocab_size)?;
        Ok(Opened { checkpoint, tokenizer })
    }
}

impl Opened {
    pub(crate) fn config(&self) -> &Config {
        self.checkpoint.config()
    }

    /// Loads the model with room for one text of so many tokens.
    pub(crate) async fn load_for(&self, n_tokens: usize, gpu: &Selector) -> Result<Model, Error> {
        self.load(&open_gpu(gpu).await?, &LoadOptions { context: Some(n_tokens), ..LoadOptions::default() }).await
    }

    /// Loads the model, with a progress bar where standard error is a terminal.
    pub(crate) async fn load(&self, gpu: &Gpu, options: &LoadOptions) -> Result<Model, Error> {
        let bar = progress_bar("loading");
        let options = LoadOptions { vector: tuned(gpu), ..*options };
        let model = Model::load(gpu, &self.checkpoint, &options, |progress| show(&bar, progress)).await;
        bar.finish_and_clear();
        let model = model?;
        note_wrong_matrix_units(&model);
        let [context, positions] = [model.config(), self.config()].map(|config| config.n_positions);
        if context < positions && options.context.is_none() {
            note(&format!("note: the GPU has room for a context of {context} positions, of the model's {positions}"));
        }
        Ok(model)
    }
}

/// Opens the GPU.
pub(crate) async fn open_gpu(selector: &Selector) -> Result<Gpu, Error> {
    let options = GpuOptions { selector: selector.clone(), cache_dir: cache_dir(), ..GpuOptions::default() };
    let gpu = Gpu::open(&options).await?;
    if gpu.info().is_software() {
        note(&format!("note: {} is a software adapter: it computes on the CPU, slowly", gpu.info()));
    }
    Ok(gpu)
}
