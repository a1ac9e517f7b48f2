//! `gptj generate`: continue a prompt, or many.

mod arguments;
mod batch;
mod stream;

use std::time::Instant;

use gptj::{Class, Error, GenerateOptions, Selector, Sequence};

pub(crate) use self::arguments::Generate;
use self::arguments::Prompt;
use crate::cli::sampling::settled;

pub(crate) async fn run(arguments: &Generate, gpu: &Selector, program_start: Instant) -> anyhow::Result<()> {
    // All checks come before anything slow.
    let opened = arguments.source.open(Class::CausalLm)?;
    let (config, tokenizer, model) = (opened.config(), opened.tokenizer.as_ref(), &arguments.source.model);
    let options = arguments.sampling.options(tokenizer, model)?;
    let options = GenerateOptions { scores: arguments.scores, ..options };
    settled(options.clone()).check(config, tokenizer)?;
    if arguments.scores && !arguments.json && arguments.prompts.is_none() {
        let reason = "only JSON has them; add --json".to_owned();
        return Err(Error::Option { name: "scores", reason }.into());
    }
    if let Some(path) = &arguments.prompts {
        return batch::run_file(arguments, &opened, path, &options, gpu).await;
    }
    let prompt = Prompt::new(arguments.prompt.tokens(tokenizer, model)?, config)?;
    if arguments.num_return_sequences != 1 {
        return batch::run_one(arguments, &opened, prompt, options, gpu).await;
    }
    let options = settled(options);
    Sequence::new(&arguments.context.applied_to(config, model), tokenizer, &prompt.tokens, &options)?;
    stream::stream(arguments, &opened, &prompt, &options, gpu, program_start).await
}
