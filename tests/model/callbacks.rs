//! What callers hook into: progress that can stop, kernels compiled ahead, logits processors, text that was held back,
//! sources of tensors of their own.

use std::error::Error as _;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Mutex;

use gptj::checkpoint::{Elements, Fetch, Source, TensorView};
use gptj::{
    Checkpoint, Engine, Error, GenerateOptions, Generation, LoadOptions, Model, SamplingOptions, Sequence, checkpoint,
};
use pollster::block_on;

use crate::common::golden;
use crate::common::gpu::gpu;
use crate::{demo_tokenizer, load_golden};

#[test]
fn a_load_can_be_stopped() {
    let Some(gpu) = gpu() else { return };
    let checkpoint = Checkpoint::open(&golden::model("shakespeare")).expect("the demo model");
    let mut calls = 0;
    let stop_at_third = |_| {
        calls += 1;
        if calls == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let stopped = block_on(Model::load(&gpu, &checkpoint, &LoadOptions::default(), stop_at_third));
    assert!(matches!(stopped, Err(Error::Stopped)));
    assert_eq!(calls, 3, "nothing is uploaded after the stop");
    // The GPU is none the worse for it.
    block_on(Model::load(&gpu, &checkpoint, &LoadOptions::default(), |_| ())).expect("it fits");
}

/// Steps of the sizes that were compiled ahead compile nothing.
#[test]
fn kernels_are_compiled_ahead() {
    let Some(gpu) = gpu() else { return };
    let mut model = load_golden(&gpu, "tiny", &LoadOptions { n_slots: 2, ..LoadOptions::default() });
    let before = gpu.created().pipelines;
    let stopped = model.compile(&[1], |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(Error::Stopped)));
    assert_eq!(gpu.created().pipelines, before, "nothing is compiled after the stop");
    let mut heard = Vec::new();
    model.compile(&[1, 2, 40], |progress| heard.push((progress.done, progress.total))).expect("they compile");
    let total = heard[0].1;
    assert_eq!(heard, (0..=total).map(|done| (done, total)).collect::<Vec<_>>());

    let compiled = gpu.created().pipelines;
    assert!(compiled > before);
    block_on(model.logits(0, &[3; 40])).expect("the GPU works");
    block_on(model.greedy_token(0, &[5])).expect("the GPU works");
    let both = [0, 1].map(|slot| gptj::SlotTokens { slot, tokens: &[7] });
    block_on(model.greedy_tokens(&both)).expect("the GPU works");
    assert_eq!(gpu.created().pipelines, compiled, "every kernel was there");
}

/// A processor that rules out all tokens but one decides the text; it is given the tokens so far.
#[test]
fn a_logits_processor_has_its_say() {
    let Some(gpu) = gpu() else { return };
    let mut model = load_golden(&gpu, "tiny", &LoadOptions::default());
    let options = GenerateOptions {
        max_new_tokens: Some(4),
        eos_token_ids: Some(Vec::new()),
        sampling: SamplingOptions::greedy(),
        ..GenerateOptions::default()
    };
    let mut sequence = Sequence::new(model.config(), None, &[9], &options).expect("a good prompt");
    sequence.set_logits_processor(|tokens, logits| {
        let next = tokens[tokens.len() - 1] as usize + 1;
        for (token, logit) in logits.iter_mut().enumerate() {
            if token != next {
                *logit = f32::NEG_INFINITY;
            }
        }
    });
    let mut text = Generation::of_sequence(&mut model, sequence).expect("a language model");
    while block_on(text.next()).expect("the GPU works").is_some() {}
    assert_eq!(text.generated(), [10, 11, 12, 13]);
}

/// Text that may become a stop string is held back, and can be had when the sequence is taken out.
#[test]
fn held_text_can_be_had() {
    let Some(gpu) = gpu() else { return };
    let tokenizer = demo_tokenizer();
    let model = load_golden(&gpu, "shakespeare", &LoadOptions::default());
    let prompt = tokenizer.encode("To be, or not").expect("a text");
    let plain = GenerateOptions { sampling: SamplingOptions::greedy(), ..GenerateOptions::default() };
    let mut engine = Engine::new(model).expect("a language model");
    let mut generate = |options: &GenerateOptions| {
        let config = engine.model().config().clone();
        let sequence = Sequence::new(&config, Some(&tokenizer), &prompt, options).expect("a good prompt");
        let index = engine.add(sequence).expect("it fits");
        let mut text = String::new();
        for _ in 0..4 {
            for (_, token) in block_on(engine.step()).expect("the GPU works") {
                text += &token.expect("a token").text;
            }
        }
        let held = engine.remove(index).expect("it runs").held_text().expect("it decodes");
        (text, held)
    };
    let (whole, nothing) = generate(&plain);
    assert_eq!(nothing, "", "nothing is held back without a stop string");
    // The text so far is the beginning of the stop string, which never comes.
    let stop = vec![format!("{whole}\u{0}")];
    let (shown, held) = generate(&GenerateOptions { stop, ..plain });
    assert_eq!((shown.as_str(), held), ("", whole));
}

/// The operating system's reason is an error's source, and its message does not repeat it.
#[test]
fn errors_have_sources() {
    let error = Error::from(Checkpoint::open(Path::new("no/such/model")).err().expect("there is none"));
    assert_eq!(error.to_string(), "cannot read no/such/model/config.json");
    let source = error.source().expect("the system's reason");
    let reason = source.downcast_ref::<std::io::Error>().expect("it is the system's");
    assert_eq!(reason.kind(), std::io::ErrorKind::NotFound);
}

/// Tensors that must be fetched before they can be read, as over a network.
struct Remote {
    file: Checkpoint,
    fetched: Mutex<usize>,
}

struct RemoteElements<'a> {
    remote: &'a Remote,
    values: Vec<f32>,
    within_reach: Mutex<Option<Range<usize>>>,
}

impl Elements for RemoteElements<'_> {
    fn fetch(&self, range: Range<usize>) -> Fetch<'_> {
        Box::pin(async move {
            *self.remote.fetched.lock().expect("nobody panicked") += range.len();
            *self.within_reach.lock().expect("nobody panicked") = Some(range);
            Ok(())
        })
    }

    fn decode(&self, start: usize, numbers: &mut [f32]) {
        let within_reach = self.within_reach.lock().expect("nobody panicked").clone().expect("it was fetched");
        assert!(within_reach.start <= start && start + numbers.len() <= within_reach.end, "only what was fetched");
        numbers.copy_from_slice(&self.values[start..start + numbers.len()]);
    }

    fn stored_bytes(&self) -> usize {
        4 * self.values.len()
    }
}

impl Remote {
    fn tensor(&self, name: &str) -> checkpoint::TensorName {
        let all = checkpoint::TensorName::all(self.file.config());
        let named = |tensor: &checkpoint::TensorName| self.file.tensor(*tensor).is_ok_and(|view| view.name() == name);
        all.into_iter().find(named).expect("callers ask for tensors that there are")
    }
}

impl Source for Remote {
    fn path(&self) -> &Path {
        Path::new("somewhere else")
    }

    fn names(&self) -> Vec<String> {
        let all = checkpoint::TensorName::all(self.file.config()).into_iter();
        all.map(|tensor| self.file.tensor(tensor).expect("it is sound").name().to_owned()).collect()
    }

    fn contains(&self, name: &str) -> bool {
        self.names().iter().any(|other| other == name)
    }

    fn view(&self, name: &str) -> checkpoint::Result<TensorView<'_>> {
        let view = self.file.tensor(self.tensor(name))?;
        let elements = RemoteElements { remote: self, values: view.to_f32()?, within_reach: Mutex::new(None) };
        Ok(TensorView::new(name, Path::new("somewhere else"), view.shape(), elements))
    }
}

/// A model loads from a source that is no file, and gives what the file gives.
#[test]
fn a_source_need_not_be_a_file() {
    let Some(gpu) = gpu() else { return };
    let file = Checkpoint::open(&golden::model("tiny")).expect("the golden is sound");
    let want = {
        let mut model = load_golden(&gpu, "tiny", &LoadOptions::default());
        block_on(model.logits(0, &[1, 2, 3])).expect("the GPU works")
    };
    let config = file.config().clone();
    let remote = Remote { file, fetched: Mutex::new(0) };
    let checkpoint = Checkpoint::from_source("somewhere else", config, remote).expect("every tensor is there");
    let mut model = block_on(Model::load(&gpu, &checkpoint, &LoadOptions::default(), |_| ())).expect("it fits");
    assert_eq!(block_on(model.logits(0, &[1, 2, 3])).expect("the GPU works"), want);
}
