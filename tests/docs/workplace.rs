//! A folder with all that the commands of the pages read: small models stand in for those that they name.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::json;
use tempfile::TempDir;

use crate::common::model_dir::{Tensors, copy_all};
use crate::common::numbers::numbers;
use crate::common::program::plain_gptj;
use crate::pages::Page;

const SHAKESPEARE: &str = "models/shakespeare";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

pub struct Workplace(TempDir);

impl Workplace {
    pub fn new() -> Self {
        let workplace = Self(TempDir::new().expect("a temporary directory"));
        workplace.add_hub("EleutherAI/gpt-j-6b", "float16");
        workplace.add_program();
        workplace
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// A Hugging Face home in which a revision of a model is the built-in one.
    fn add_hub(&self, name: &str, revision: &str) {
        let repository = self.path().join("huggingface/hub").join(format!("models--{}", name.replace('/', "--")));
        fs::create_dir_all(repository.join("refs")).expect("a directory");
        fs::write(repository.join("refs").join(revision), COMMIT).expect("a file");
        copy_all(Path::new(SHAKESPEARE), &repository.join("snapshots").join(COMMIT));
    }

    /// The folder of a script that starts the program as tests do, with this hub and no network.
    pub fn bin(&self) -> PathBuf {
        self.path().join("bin")
    }

    /// That script. Benchmarks take the tiny shapes in place of GPT-J-6B's, and what tuning finds is kept where other
    /// tests do not see it.
    fn add_program(&self) {
        let program = plain_gptj(&[]);
        let words = [program.get_program()].into_iter().chain(program.get_args());
        let words: Vec<_> = words.map(|word| quoted(word.to_str().expect("a plain path"))).collect();
        let variables =
            program.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?.to_owned())));
        let hub = self.path().join("huggingface").to_str().expect("a plain path").to_owned();
        let variables = variables.chain([("HF_HOME", hub), ("HF_HUB_OFFLINE", "1".to_owned())]);
        let exports: String = variables.map(|(name, value)| format!("export {name}={}\n", quoted(&value))).collect();
        let script = format!(
            "#!/bin/sh\nunset HF_HUB_CACHE HUGGINGFACE_HUB_CACHE\n{exports}\
             for word do shift; [ \"$word\" = 6b ] && word=tiny; set -- \"$@\" \"$word\"; done\n\
             case \" $* \" in *' --shape'*) ;; ' bench kernels '*) set -- \"$@\" --shapes tiny;; esac\n\
             case \" $* \" in *' --tune '*) export GPTJ_CACHE_DIR=tuned;; esac\nexec {} \"$@\"\n",
            words.join(" ")
        );
        fs::create_dir(self.bin()).expect("a directory");
        fs::write(self.bin().join("gptj"), script).expect("a file");
        fs::set_permissions(self.bin().join("gptj"), fs::Permissions::from_mode(0o755)).expect("it is ours");
    }

    /// Writes a page's commands as a file for trycmd, with a folder of files for them beside it. A block of `sh`
    /// promises that each line succeeds in a shell; a `console` session also what is printed.
    pub fn add(&self, page: &Page) -> PathBuf {
        let name = page.path.file_stem().expect("a page has a name").to_str().expect("a plain name");
        let case = self.path().join(name).with_extension("md");
        let mut sessions = String::new();
        for block in &page.blocks {
            match block.language.as_str() {
                "console" => sessions += &format!("```console\n{}```\n", block.text),
                "sh" => {
                    let run = |line: &&str| !line.is_empty() && !line.starts_with("cargo ");
                    let steps = block.text.lines().filter(run).map(|line| format!("$ sh -c {}\n...\n", quoted(line)));
                    let steps: String = steps.collect();
                    if !steps.is_empty() {
                        sessions += &format!("```console\n{steps}\n```\n");
                    }
                }
                _ => {}
            }
        }
        fs::write(&case, sessions).expect("a file");
        fill(&self.path().join(name).with_extension("in"), page);
        case
    }
}

/// As one word of a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Makes the folder in which a page's commands run.
fn fill(folder: &Path, page: &Page) {
    fs::create_dir(folder).expect("a directory");
    let link = |from: &str, name: &str| {
        symlink(fs::canonicalize(from).expect("it is in the project"), folder.join(name)).expect("a link");
    };
    link(SHAKESPEARE, "gpt-j-6b");
    link("tests/formats/gguf/mixed.gguf", "gpt-j-6b.gguf");
    link("tests/formats/mesh/step_383500", "step_383500");
    add_class(&folder.join("my-classifier"), "GPTJForSequenceClassification", &["score.weight"]);
    add_class(&folder.join("my-answerer"), "GPTJForQuestionAnswering", &["qa_outputs.weight", "qa_outputs.bias"]);
    add_adapter(&folder.join("my-adapter"));
    for (name, text) in [
        ("texts.txt", "To be, or not to be\nThat is the question\n".to_owned()),
        ("story.txt", "The king is dead. Long live the king!\n".to_owned()),
        (
            "wiki.txt",
            "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer.\n".repeat(20),
        ),
    ] {
        fs::write(folder.join(name), text).expect("a file");
    }
    let prompts = page.blocks.iter().find(|block| block.language == "jsonl");
    let prompts = prompts.map_or("{\"prompt\": \"To be\", \"max_new_tokens\": 8}\n", |block| &block.text);
    fs::write(folder.join("prompts.jsonl"), prompts).expect("a file");
}

/// The built-in model as one of another class, with a head of two outputs.
fn add_class(folder: &Path, class: &str, head: &[&str]) {
    copy_all(Path::new(SHAKESPEARE), folder);
    let file = |name: &str| folder.join(name);
    let config = fs::read_to_string(file("config.json")).expect("a configuration");
    fs::write(file("config.json"), config.replace("GPTJForCausalLM", class)).expect("a file");
    let mut tensors = Tensors::open(file("model.safetensors"));
    for name in head {
        let shape = if name.ends_with("bias") { vec![2] } else { vec![2, 256] };
        tensors.insert(name, Dtype::F32, &shape, &numbers(1, shape.iter().product()));
    }
    fs::write(file("model.safetensors"), tensors.to_file()).expect("a file");
}

/// An adapter of the built-in model.
fn add_adapter(folder: &Path) {
    let mut tensors = Tensors::default();
    for (side, shape) in [("A", [4, 256]), ("B", [256, 4])] {
        let name = format!("base_model.model.transformer.h.0.attn.q_proj.lora_{side}.weight");
        tensors.insert(&name, Dtype::F32, &shape, &numbers(2, 1024));
    }
    let settings = json!({ "peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q_proj"] });
    fs::create_dir(folder).expect("a directory");
    fs::write(folder.join("adapter_config.json"), settings.to_string()).expect("a file");
    fs::write(folder.join("adapter_model.safetensors"), tensors.to_file()).expect("a file");
}
