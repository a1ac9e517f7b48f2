//! What a model refuses, and what becomes of numbers that overflow.

use gptj::{
    Checkpoint, Class, Config, Engine, Error, GemvConfig, GenerateOptions, Generation, LoadOptions, Model, Pooling,
    SamplingOptions, Sequence, SlotTokens,
};
use pollster::block_on;
use safetensors::Dtype;

use crate::common::golden;
use crate::common::gpu::gpu;
use crate::common::model_dir::{ModelDir, Tensors};
use crate::common::transformers::load;
use crate::{load_as, load_golden};

/// Labels that are no labels of the text, an answer of no tokens, and the like.
#[test]
fn impossible_requests_are_errors() {
    let Some(gpu) = gpu() else { return };
    let mut model = load_golden(&gpu, "tiny", &LoadOptions::default());
    for (labels, words) in [
        (&[1, 2][..], "there are 2 for 3 tokens"),
        (&[1, -100, -100], "none of them counts"),
        (&[1, 5000, 2], "5000 is neither in the vocabulary"),
        (&[1, -1, 2], "-1 is neither"),
    ] {
        let error = block_on(model.loss(&[1, 2, 3], labels)).expect_err("impossible").to_string();
        assert!(error.contains(words), "{error}");
    }
    let mut model = load_as(&gpu, "classes/question_answering", Class::QuestionAnswering);
    for (question, context, longest, words) in [
        (&[1][..], &[2][..], 0, "an answer has at least 1 token"),
        (&[], &[2], 5, "the question is empty"),
        (&[1], &[], 5, "the context is empty"),
        (&[1], &[5000], 5, "token 5000"),
    ] {
        let error = block_on(model.answer(question, context, longest)).expect_err("impossible").to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// A model is asked for what it has no head for, or opened as what it is not.
#[test]
fn what_a_class_lacks_is_an_error() {
    let Some(gpu) = gpu() else { return };
    let name = "classes/single_label";
    let mut model = load_as(&gpu, name, Class::SequenceClassification);
    let errors = [
        block_on(model.score(&[1, 2], 0)).expect_err("no language model"),
        block_on(model.answer(&[1], &[2], 5)).expect_err("no question answering"),
        Engine::new(model).err().expect("no language model"),
    ];
    for error in errors {
        assert!(matches!(error, Error::Class { is: Class::SequenceClassification, .. }), "{error}");
        assert!(error.to_string().contains("GPTJForSequenceClassification"), "{error}");
    }
    for (class, words) in [
        (Class::CausalLm, "lm_head.weight, lm_head.bias; they are the head of a GPTJForCausalLM"),
        (
            Class::QuestionAnswering,
            "qa_outputs.weight, qa_outputs.bias; they are the head of a GPTJForQuestionAnswering",
        ),
    ] {
        let error = Checkpoint::open_as(&golden::model(name), class).err().expect("it has another head").to_string();
        assert!(error.contains(words) && error.contains("score.weight"), "{error}");
    }
    let mut model = load_as(&gpu, name, Class::Model);
    let error = block_on(model.classify(&[1])).expect_err("the head is not loaded");
    assert!(matches!(error, Error::Class { is: Class::Model, wanted: Class::SequenceClassification }), "{error}");
}

#[test]
fn a_text_that_leaves_no_choice_is_an_error() {
    let Some(gpu) = gpu() else { return };
    let mut model = load_golden(&gpu, "shakespeare", &LoadOptions::default());
    let sampling = SamplingOptions { suppress_tokens: (0..1024).collect(), ..SamplingOptions::default() };
    let options = GenerateOptions { sampling, ..GenerateOptions::default() };
    let mut text = Generation::new(&mut model, None, &[1, 2], &options).expect("a good prompt");
    let error = block_on(text.next()).expect_err("no token is left");
    assert!(matches!(error, Error::Option { .. }), "{error}");
    assert_eq!(block_on(text.next()).expect("the GPU works"), None, "the text has ended");
}

/// What a sequence or a feed can ask for and the model has not.
#[test]
fn what_does_not_fit_the_model_is_refused() {
    let Some(gpu) = gpu() else { return };
    let checkpoint = Checkpoint::open(&golden::model("shakespeare")).expect("the demo model");
    let options = LoadOptions { context: Some(32), n_slots: 2, ..LoadOptions::default() };
    let model = load(&gpu, &checkpoint, &options);
    let long = Sequence::new(checkpoint.config(), None, &[1; 40], &GenerateOptions::default()).expect("for another");
    let larger = Config { vocab_size: 5000, ..checkpoint.config().clone() };
    let foreign = Sequence::new(&larger, None, &[4000], &GenerateOptions::default()).expect("for another");
    let mut engine = Engine::new(model).expect("a language model");
    for (sequence, words) in [(long, "the prompt has 40 tokens"), (foreign, "token 4000 is not in the vocabulary")] {
        let error = engine.add(sequence).expect_err("it does not fit").to_string();
        assert!(error.contains(words), "{error}");
    }
    let mut model = engine.into_model();
    let feed = |slot| SlotTokens { slot, tokens: &[1] };
    for (feeds, words) in
        [(vec![feed(2)], "slot: 2 is not one of the model's 2"), (vec![feed(1), feed(1)], "1 is fed twice")]
    {
        let error = block_on(model.logits_of_slots(&feeds)).expect_err("there is no such slot").to_string();
        assert!(error.contains(words), "{error}");
    }
    let gemv = Some(GemvConfig { lanes: 512, rows: 8, depth: 1, limit: 32 });
    let options = LoadOptions { gemv, ..LoadOptions::default() };
    let error = block_on(Model::load(&gpu, &checkpoint, &options, |_| ())).err().expect("there are no such kernels");
    assert!(error.to_string().contains("gemv: "), "{error}");
}

/// Weights so large that numbers overflow give an error and no text.
#[test]
fn numbers_that_overflow_are_an_error() {
    let Some(gpu) = gpu() else { return };
    let golden = golden::model("tiny");
    let mut tensors = Tensors::open(golden.join("model.safetensors"));
    tensors.insert("transformer.ln_f.weight", Dtype::F32, &[32], &[3e38f32; 32]);
    let directory = ModelDir::empty().with("config.json", golden::read(golden.join("config.json")));
    let directory = directory.with("model.safetensors", tensors.to_file());
    let checkpoint = Checkpoint::open(directory.path()).expect("sound as files go");
    let options = LoadOptions { n_slots: 2, ..LoadOptions::default() };
    let mut model = load(&gpu, &checkpoint, &options);
    for sampling in [SamplingOptions::greedy(), SamplingOptions::default()] {
        let options = GenerateOptions { sampling, ..GenerateOptions::default() };
        let mut text = Generation::new(&mut model, None, &[1, 2], &options).expect("a good prompt");
        assert!(matches!(block_on(text.next()), Err(Error::NonFinite(_))));
    }
    assert!(matches!(block_on(model.score(&[1, 2, 3], 0)), Err(Error::NonFinite(_))));
    assert!(matches!(block_on(model.loss(&[1, 2, 3], &[1, 2, 3])), Err(Error::NonFinite(_))));
    assert!(matches!(block_on(model.embed(&[1, 2], Pooling::Mean)), Err(Error::NonFinite(_))));
}
