//! From arguments to a model on a GPU, with progress until its first step is done.

use anyhow::anyhow;
use clap::Args;
use gptj::{
    Checkpoint, Class, Config, Error, GemvConfig, Gpu, GpuOptions, LoadOptions, Model, Selector, Tokenizer, checkpoint,
};

use super::{
    LoraArguments, ModelArguments, TokenizerArguments, cache_dir, note, note_wrong_matrix_units, progress_bar,
    short_name, show, spinner,
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
        let checkpoint = match self.model.checkpoint_as(class) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return Err(self.explain(error, class)),
        };
        let checkpoint = self.lora.add_to(checkpoint)?;
        let tokenizer = self.tokenizer.open(&self.model, checkpoint.config().vocab_size)?;
        Ok(Opened { checkpoint, tokenizer })
    }

    /// Why the model does not open as one of this class: if it is a sound one of another, names the commands for that.
    fn explain(&self, error: checkpoint::Error, expected: Class) -> anyhow::Error {
        match self.model.checkpoint().map(|checkpoint| checkpoint.config().class) {
            Ok(class) if class != expected => {
                let commands = match class {
                    Class::Model => "`gptj embed` or `gptj hidden-states`",
                    Class::CausalLm => "`gptj generate`, `gptj score` or `gptj perplexity`",
                    Class::SequenceClassification => "`gptj classify`",
                    Class::QuestionAnswering => "`gptj answer`",
                };
                anyhow!("{} is a {class} and not a {expected}: use {commands}", self.model.name())
            }
            _ => error.into(),
        }
    }
}

impl Opened {
    pub(crate) fn config(&self) -> &Config {
        self.checkpoint.config()
    }

    /// Loads the model with room for one text of `n_tokens` tokens.
    pub(crate) async fn load_for(&self, n_tokens: usize, gpu: &Selector) -> Result<Model, Error> {
        self.load(&open_gpu(gpu).await?, &LoadOptions { context: Some(n_tokens), ..LoadOptions::default() }).await
    }

    /// Loads the model, with a progress bar if standard error is a terminal.
    pub(crate) async fn load(&self, gpu: &Gpu, options: &LoadOptions) -> Result<Model, Error> {
        let bar = progress_bar("loading");
        let options = LoadOptions { gemv: GemvConfig::tuned(gpu), ..*options };
        let model = Model::load(gpu, &self.checkpoint, &options, |progress| show(&bar, progress)).await;
        bar.finish_and_clear();
        let model = model?;
        note_wrong_matrix_units(&model);
        let (context, positions) = (model.config().n_positions, self.config().n_positions);
        if context < positions && options.context.is_none() {
            note(&format!("note: the GPU has room for a context of {context} of the model's {positions} positions"));
        }
        Ok(model)
    }
}

/// Waits for a model's first step, which compiles its kernels.
pub(crate) async fn first_step<T>(step: impl Future<Output = T>) -> T {
    let spinner = spinner("compiling kernels");
    let done = step.await;
    spinner.finish_and_clear();
    done
}

/// Opens the GPU.
pub(crate) async fn open_gpu(selector: &Selector) -> Result<Gpu, Error> {
    let options = GpuOptions { selector: selector.clone(), cache_dir: cache_dir(), ..GpuOptions::default() };
    let gpu = Gpu::open(&options).await?;
    if gpu.info().is_software() {
        let name = short_name(gpu.info());
        note(&format!("note: {name} is a software adapter: it computes on the CPU, slowly"));
    }
    Ok(gpu)
}
