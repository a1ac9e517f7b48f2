//! Fetching models from a server that behaves like the Hugging Face Hub, into a cache in Hugging Face's layout.

#![cfg(feature = "hub")]

#[path = "hub/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gptj_checkpoint::hub::{Extent, Hub, HubName, HubProgress, Snapshot};
use gptj_checkpoint::{Error, Result};
use server::{Fault, Repository, Request, Server, git_hash, sha256};
use tempfile::TempDir;

const NAME: &str = "org/model";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER_COMMIT: &str = "fedcba9876543210fedcba9876543210fedcba98";
/// `git hash-object` of [`CONFIG`], and `sha256sum` of [`WEIGHTS`].
const CONFIG_HASH: &str = "039b794dad14aeb29f73087a629f422c94593946";
const WEIGHTS_HASH: &str = "5e2202d66fe5e1be93a8f3fe8598de64470b9855164b1d2d57d1fef9aeeda52c";
const CONFIG: &str = r#"{"model_type": "gptj"}"#;
const WEIGHTS: &str = "the weights of a model";

struct Setting {
    server: Server,
    directory: TempDir,
    hub: Hub,
}

/// A server with nothing on it and an empty cache.
fn setting() -> Setting {
    let server = Server::start();
    let directory = tempfile::tempdir().expect("a directory");
    let hub = Hub::new(&server.url(), directory.path()).expect("a URL").with_first_wait(Duration::from_millis(5));
    Setting { server, directory, hub }
}

/// The same with a model on it.
fn setting_of(repository: Repository) -> Setting {
    let setting = setting();
    setting.server.add(NAME, repository);
    setting
}

/// The least that is a model.
fn model() -> Repository {
    Repository::new(COMMIT).small("config.json", CONFIG).large("model.safetensors", WEIGHTS)
}

/// A model with as many bytes of weights as it takes for connections to be cut in the middle.
fn long_model() -> (Repository, Vec<u8>) {
    let weights: Vec<u8> = (0..250_000u32).flat_map(u32::to_le_bytes).collect();
    (Repository::new(COMMIT).small("config.json", CONFIG).large("model.safetensors", weights.clone()), weights)
}

fn name(text: &str) -> HubName {
    text.parse().expect("a name")
}

impl Setting {
    fn fetch(&self) -> Result<Snapshot> {
        self.fetch_as(NAME, None)
    }

    fn fetch_as(&self, model: &str, revision: Option<&str>) -> Result<Snapshot> {
        self.hub.fetch(&name(model), revision, Extent::Model, &mut |_| ControlFlow::Continue(()))
    }

    /// The message of the error that fetching gives.
    fn refusal(&self) -> String {
        let error = self.fetch().expect_err("it cannot be fetched");
        assert!(matches!(&error, Error::Hub { name, .. } if name == NAME), "{error}");
        error.to_string()
    }

    fn repository(&self) -> PathBuf {
        self.directory.path().join("models--org--model")
    }

    fn blob(&self, name: &str) -> PathBuf {
        self.repository().join("blobs").join(name)
    }
}

/// All files below a directory, with their contents, or the targets of symlinks.
fn tree(directory: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let own = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_symlink() {
            found.insert(own, format!("-> {}", path.read_link().expect("a link").display()));
        } else if path.is_dir() {
            found.extend(tree(&path).into_iter().map(|(name, content)| (format!("{own}/{name}"), content)));
        } else {
            found.insert(own, std::fs::read_to_string(&path).expect("text"));
        }
    }
    found
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Method and path of each request.
fn lines(requests: &[Request]) -> Vec<String> {
    requests.iter().map(|request| format!("{} {}", request.method, request.path)).collect()
}

fn gets(requests: &[Request], path: &str) -> usize {
    requests.iter().filter(|request| request.method == "GET" && request.path.ends_with(path)).count()
}

#[test]
#[cfg(unix)]
fn the_cache_has_the_layout_of_huggingface() {
    let setting = setting_of(model().small("README.md", "no part of a model").large("tf_model.h5", "neither"));
    let snapshot = setting.fetch().expect("it is there");
    assert_eq!((snapshot.commit.as_str(), snapshot.fetched), (COMMIT, (CONFIG.len() + WEIGHTS.len()) as u64));
    assert_eq!(snapshot.path, setting.repository().join("snapshots").join(COMMIT));
    let expected = BTreeMap::from([
        (format!(".locks/models--org--model/{CONFIG_HASH}.lock"), String::new()),
        (format!(".locks/models--org--model/{WEIGHTS_HASH}.lock"), String::new()),
        (format!("models--org--model/blobs/{CONFIG_HASH}"), CONFIG.to_owned()),
        (format!("models--org--model/blobs/{WEIGHTS_HASH}"), WEIGHTS.to_owned()),
        ("models--org--model/refs/main".to_owned(), COMMIT.to_owned()),
        (format!("models--org--model/snapshots/{COMMIT}/config.json"), format!("-> ../../blobs/{CONFIG_HASH}")),
        (format!("models--org--model/snapshots/{COMMIT}/model.safetensors"), format!("-> ../../blobs/{WEIGHTS_HASH}")),
    ]);
    assert_eq!(tree(setting.directory.path()), expected);
}

#[test]
fn only_needed_files_are_asked_for() {
    let tokenizer = ["tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"];
    let mut repository = model().large("pytorch_model.bin", "other weights").large("flax_model.msgpack", "more");
    for file in tokenizer {
        repository = repository.small(file, format!("contents of {file}"));
    }
    let setting = setting_of(repository);
    let snapshot = setting.fetch().expect("it is there");
    let asked = lines(&setting.server.requests());
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        let path = format!("/{NAME}/resolve/{COMMIT}/{file}");
        assert!(asked.contains(&format!("HEAD {path}")) && asked.contains(&format!("GET {path}")), "{file}: {asked:?}");
        assert!(snapshot.path.join(file).exists());
    }
    // The listing, two requests a file, and one that is redirected.
    assert_eq!(asked.len(), 1 + 2 * 4 + 1, "{asked:?}");
}

#[test]
fn settings_come_without_weights() {
    let setting = setting_of(model().small("tokenizer.json", "{}"));
    let settings = |revision| {
        setting
            .hub
            .fetch(&name(NAME), revision, Extent::Settings, &mut |_| ControlFlow::Continue(()))
            .expect("it is there")
    };
    let snapshot = settings(None);
    assert_eq!(snapshot.fetched, CONFIG.len() as u64 + 2);
    let has = |file| snapshot.path.join(file).exists();
    assert!(has("config.json") && has("tokenizer.json") && !has("model.safetensors"));
    assert!(setting.hub.cached(&name(NAME), None).expect("a good revision").is_none());
    // One of them may be missing still.
    std::fs::remove_file(snapshot.path.join("tokenizer.json")).expect("a file");
    settings(Some(COMMIT));
    assert!(has("tokenizer.json"));
    assert_eq!(setting.fetch().expect("it is there").fetched, WEIGHTS.len() as u64);
}

#[test]
fn cached_files_are_not_fetched_again() {
    let setting = setting_of(model());
    let first = setting.fetch().expect("it is there");
    setting.server.requests();
    let second = setting.fetch().expect("it is there");
    assert_eq!((second.path.clone(), second.fetched, second.unchecked.is_none()), (first.path, 0, true));
    assert_eq!(lines(&setting.server.requests()), [format!("GET /api/models/{NAME}/revision/main")]);

    // A commit does not change.
    assert_eq!(setting.fetch_as(NAME, Some(COMMIT)).expect("it is cached").path, second.path);
    assert!(setting.server.requests().is_empty());
    let cached = setting.hub.cached(&name(NAME), None).expect("a good revision").expect("it is cached");
    assert_eq!(cached.path, second.path);
    assert!(setting.hub.cached(&name(NAME), Some("other")).expect("a good revision").is_none());
}

#[test]
fn a_cache_that_lacks_a_blob_is_mended() {
    let setting = setting_of(model());
    setting.fetch().expect("it is there");
    std::fs::remove_file(setting.blob(WEIGHTS_HASH)).expect("a blob");
    assert!(setting.hub.cached(&name(NAME), None).expect("a good revision").is_none());
    let snapshot = setting.fetch_as(NAME, Some(COMMIT)).expect("it is there");
    assert_eq!(snapshot.fetched, WEIGHTS.len() as u64);
    assert_eq!(read(&snapshot.path.join("model.safetensors")), WEIGHTS.as_bytes());
}

#[test]
fn whole_weights_of_the_other_kind_are_used_as_they_are() {
    let setting = setting_of(Repository::new(COMMIT).small("config.json", CONFIG).large("pytorch_model.bin", "bin"));
    setting.fetch().expect("it is there");
    // The same commit with other weights stands for a cache that another program has filled.
    setting.server.forget_revisions(NAME);
    let both = Setting { server: Server::start(), ..setting };
    both.server.add(NAME, model().large("pytorch_model.bin", "bin"));
    let both = Setting { hub: Hub::new(&both.server.url(), both.directory.path()).expect("a URL"), ..both };
    assert_eq!(both.fetch().expect("it is there").fetched, 0);
}

#[test]
fn offline_means_no_request() {
    let mut setting = setting_of(model());
    let online = setting.fetch().expect("it is there").path;
    setting.server.requests();
    setting.hub = setting.hub.with_offline(true);
    assert_eq!(setting.fetch().expect("it is cached").path, online);
    for (model, revision) in [("org/other", None), (NAME, Some("float16"))] {
        let error = setting.fetch_as(model, revision).expect_err("it is not cached").to_string();
        assert!(error.contains(model) && error.contains("HF_HUB_OFFLINE"), "{error}");
    }
    assert!(setting.server.requests().is_empty());
}

#[test]
fn without_a_network_the_cache_is_used() {
    let setting = setting_of(model());
    let online = setting.fetch().expect("it is there").path;
    setting.server.fail("GET", "/revision/main", Fault::Status(500, &[]), 1);
    let broken = setting.fetch().expect("it is cached");
    assert_eq!(broken.path, online);
    assert!(broken.unchecked.expect("it was not checked").to_string().contains("500"));

    setting.server.leave();
    let alone = setting.fetch().expect("it is cached");
    assert_eq!((alone.path, alone.unchecked.is_some()), (online, true));
    let start = Instant::now();
    let error = setting.fetch_as("org/other", None).expect_err("it is not cached").to_string();
    assert!(error.contains("org/other") && error.contains("127.0.0.1 cannot be reached"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "a network that is not there is not waited for");
}

#[test]
fn shards_are_those_of_the_index() {
    let shards: Vec<_> = (1..=9).map(|number| format!("model-{number:05}-of-00009.safetensors")).collect();
    let map: BTreeMap<_, _> = shards.iter().map(|shard| (format!("tensor of {shard}"), shard)).collect();
    let index = serde_json::json!({ "weight_map": map }).to_string();
    let mut repository = Repository::new(COMMIT).small("config.json", CONFIG);
    repository = repository.small("model.safetensors.index.json", index).large("model-extra.safetensors", "not listed");
    for shard in &shards {
        repository = repository.large(shard, format!("contents of {shard}"));
    }
    let setting = setting_of(repository);
    let snapshot = setting.fetch().expect("it is there");
    for shard in &shards {
        assert_eq!(read(&snapshot.path.join(shard)), format!("contents of {shard}").as_bytes());
    }
    assert!(!snapshot.path.join("model-extra.safetensors").exists());
    std::fs::remove_file(snapshot.path.join(&shards[4])).expect("a shard");
    assert!(setting.hub.cached(&name(NAME), None).expect("a good revision").is_none());
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let mut setting = setting_of(Repository { token: Some("secret".to_owned()), ..model() });
    let error = setting.refusal();
    assert!(error.contains("HF_TOKEN") && error.contains("none is set"), "{error}");
    setting.server.requests();
    setting.hub = setting.hub.with_token(Some("wrong".to_owned()));
    let error = setting.refusal();
    assert!(error.contains("HF_TOKEN") && error.contains("may not") && !error.contains("wrong"), "{error}");
    assert_eq!(setting.server.requests().len(), 1, "no is no");
    setting.hub = setting.hub.with_token(Some("secret".to_owned()));
    setting.fetch().expect("it may be read");
    let requests = setting.server.requests();
    let (to_storage, to_hub): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.is_to_storage);
    assert!(to_hub.iter().all(|request| request.headers["authorization"] == "Bearer secret"), "{to_hub:?}");
    assert!(!to_storage.is_empty());
    assert!(to_storage.iter().all(|request| !request.headers.contains_key("authorization")), "{to_storage:?}");

    setting.hub = setting.hub.with_token(Some("two\nlines".to_owned()));
    assert!(setting.fetch_as("org/other", None).expect_err("no token").to_string().contains("HF_TOKEN"));
}

#[test]
fn a_connection_that_is_cut_is_resumed() {
    let (repository, weights) = long_model();
    let setting = setting_of(repository);
    let hash = sha256(&weights);
    setting.server.fail("GET", &hash, Fault::Cut(375_000), 1);
    // Counted from the start of the second request.
    setting.server.fail("GET", &hash, Fault::Cut(175_000), 1);
    // More often in a row than is patience for, but each time something arrives.
    setting.server.fail("GET", &hash, Fault::Cut(1000), 8);
    let snapshot = setting.fetch().expect("it arrives in the end");
    assert_eq!(read(&snapshot.path.join("model.safetensors")), weights);
    let requests = setting.server.requests();
    let ranges = requests.iter().filter(|request| request.is_to_storage && request.method == "GET");
    let ranges: Vec<_> = ranges.map(|request| request.headers.get("range").map(String::as_str)).collect();
    assert_eq!(ranges[..4], [None, Some("bytes=375000-"), Some("bytes=550000-"), Some("bytes=551000-")]);
    assert_eq!(ranges.len(), 11);
}

#[test]
fn a_connection_that_is_cut_again_and_again_is_given_up() {
    let (repository, weights) = long_model();
    let setting = setting_of(repository);
    let hash = sha256(&weights);
    setting.server.fail("GET", &hash, Fault::Cut(1000), 1);
    setting.server.fail("GET", &hash, Fault::Cut(0), usize::MAX);
    let error = setting.refusal();
    assert!(error.contains("connection broke"), "{error}");
    // The one that brought something, and the first after it with its five retries.
    assert_eq!(gets(&setting.server.requests(), &hash), 1 + 5);
    assert_eq!(read(&setting.blob(&format!("{hash}.incomplete"))).len(), 1000);
}

#[test]
fn a_stop_keeps_the_partial_file() {
    let (repository, weights) = long_model();
    let setting = setting_of(repository);
    let hash = sha256(&weights);
    setting.server.fail("GET", &hash, Fault::Slow(Duration::from_millis(20)), 1);
    let mut last = HubProgress::default();
    let stopped = setting.hub.fetch(&name(NAME), None, Extent::Model, &mut |progress| {
        last = progress.clone();
        let enough = &*progress.file == "model.safetensors" && progress.file_done > 200_000;
        if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(Error::Stopped)));
    assert_eq!((last.file_total, last.total), (1_000_000, 1_000_000 + CONFIG.len() as u64));
    assert_eq!(last.done, last.file_done + CONFIG.len() as u64);
    let arrived = read(&setting.blob(&format!("{hash}.incomplete"))).len();
    assert!((200_000..1_000_000).contains(&arrived), "{arrived}");
    assert!(!setting.blob(&hash).exists());
    assert!(setting.hub.cached(&name(NAME), None).expect("a good revision").is_none());
    setting.server.requests();

    let snapshot = setting.fetch().expect("it goes on");
    assert_eq!(snapshot.fetched, (1_000_000 - arrived) as u64);
    assert_eq!(read(&snapshot.path.join("model.safetensors")), weights);
    let requests = setting.server.requests();
    let get = requests.iter().find(|request| request.is_to_storage).expect("the rest was asked for");
    assert_eq!(get.headers["range"], format!("bytes={arrived}-"));
    assert!(!setting.blob(&format!("{hash}.incomplete")).exists());
}

#[test]
fn a_stop_need_not_wait_for_bytes() {
    let setting = setting_of(model());
    let setting = Setting { hub: setting.hub.clone().with_first_wait(Duration::from_secs(60)), ..setting };
    setting.server.fail("GET", "/revision/main", Fault::Status(503, &[]), usize::MAX);
    let start = Instant::now();
    let stopped = setting.hub.fetch(&name(NAME), None, Extent::Model, &mut |_| {
        if start.elapsed() > Duration::from_millis(300) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(Error::Stopped)));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let (repository, weights) = long_model();
    let setting = setting_of(repository);
    let hash = sha256(&weights);
    setting.server.fail("GET", &hash, Fault::Cut(375_000), 1);
    setting.server.fail("GET", &hash, Fault::NoRanges, 1);
    let snapshot = setting.fetch().expect("it arrives in the end");
    assert_eq!(read(&snapshot.path.join("model.safetensors")), weights);
    assert_eq!(snapshot.fetched, (375_000 + weights.len() + CONFIG.len()) as u64);
}

#[test]
fn a_spoilt_part_is_fetched_anew() {
    let setting = setting_of(model());
    std::fs::create_dir_all(setting.repository().join("blobs")).expect("a directory");
    let incomplete = setting.blob(&format!("{WEIGHTS_HASH}.incomplete"));
    for spoilt in [&b"THE weights"[..], &b"THE weights of a model"[..], &[b'x'; 100][..]] {
        std::fs::write(&incomplete, spoilt).expect("a file");
        let snapshot = setting.fetch().expect("it is there");
        assert_eq!(read(&snapshot.path.join("model.safetensors")), WEIGHTS.as_bytes());
        assert!(!incomplete.exists());
        std::fs::remove_file(setting.blob(WEIGHTS_HASH)).expect("a blob");
    }
    // A part that lacks nothing takes no request.
    setting.server.requests();
    std::fs::write(&incomplete, WEIGHTS).expect("a file");
    setting.fetch().expect("it is there");
    assert_eq!(gets(&setting.server.requests(), WEIGHTS_HASH), 0);
}

#[test]
fn a_wrong_hash_is_found_out() {
    for (file, path, hash) in
        [("model.safetensors", WEIGHTS_HASH, WEIGHTS_HASH), ("config.json", "config.json", CONFIG_HASH)]
    {
        let setting = setting_of(model());
        setting.server.fail("GET", path, Fault::Damage, 1);
        let error = setting.refusal();
        assert!(error.contains(file) && error.contains("hash") && error.contains(hash), "{error}");
        assert!(!setting.blob(hash).exists() && !setting.blob(&format!("{hash}.incomplete")).exists());
        assert!(!setting.repository().join("snapshots").join(COMMIT).join(file).exists());
        setting.fetch().expect("the next time all is well");
    }
}

#[test]
fn a_wrong_size_is_found_out() {
    let wrong: [(&str, Fault); 4] = [
        ("HEAD", Fault::Size(WEIGHTS.len() as u64 - 1)),
        ("HEAD", Fault::Size(WEIGHTS.len() as u64 + 1)),
        ("GET", Fault::Size(WEIGHTS.len() as u64 + 1)),
        ("GET", Fault::Longer),
    ];
    for (method, fault) in wrong {
        let setting = setting_of(model());
        setting.server.fail(method, if method == "GET" { WEIGHTS_HASH } else { "model.safetensors" }, fault, 1);
        let error = setting.refusal();
        assert!(error.contains("model.safetensors has ") && error.contains("bytes"), "{error}");
        assert!(!setting.blob(WEIGHTS_HASH).exists());
        setting.fetch().expect("the next time all is well");
    }
}

#[test]
fn an_etag_that_is_no_hash_is_refused() {
    let setting = setting_of(model());
    setting.server.fail("HEAD", "model.safetensors", Fault::Etag("\"../../escape\"".to_owned()), 1);
    let error = setting.refusal();
    assert!(error.contains("model.safetensors") && error.contains("ETag"), "{error}");
    assert!(!setting.directory.path().join("escape.incomplete").exists());
    setting.server.fail("HEAD", "model.safetensors", Fault::Etag(format!("W/\"{WEIGHTS_HASH}\"")), 1);
    setting.fetch().expect("a weak one is as good");
}

#[test]
fn a_busy_server_is_asked_again() {
    let setting = setting_of(model());
    setting.server.fail("GET", "/revision/main", Fault::Status(503, &[]), 2);
    setting.server.fail("HEAD", "config.json", Fault::Status(502, &[]), 1);
    setting.server.fail("GET", WEIGHTS_HASH, Fault::Status(429, &[("Retry-After", "1")]), 1);
    let start = Instant::now();
    setting.fetch().expect("it answers in the end");
    assert!(start.elapsed() >= Duration::from_secs(1), "it asked for a second");
    assert_eq!(gets(&setting.server.requests(), "/revision/main"), 3);

    setting.server.fail("GET", "/revision/busy", Fault::Status(503, &[]), usize::MAX);
    let error = setting.fetch_as(NAME, Some("busy")).expect_err("it never answers").to_string();
    assert!(error.contains("503"), "{error}");
    assert_eq!(gets(&setting.server.requests(), "/revision/busy"), 6);
    // Nobody waits an hour.
    setting.server.fail("GET", "/revision/later", Fault::Status(429, &[("Retry-After", "3600")]), usize::MAX);
    setting.fetch_as(NAME, Some("later")).expect_err("it never answers");
    assert_eq!(gets(&setting.server.requests(), "/revision/later"), 1);
}

#[test]
fn missing_models_and_revisions_are_named() {
    let setting = setting_of(model());
    let error = setting.fetch_as("org/other", None).expect_err("no such model").to_string();
    assert!(error.starts_with("org/other on the Hugging Face Hub: there is no such model"), "{error}");
    let error = setting.fetch_as(NAME, Some("float16")).expect_err("no such revision").to_string();
    assert!(error.contains(NAME) && error.contains("no such branch, tag or commit"), "{error}");
    assert_eq!(setting.server.requests().len(), 2, "no is no");
    for revision in ["", "..", "a/../b", "/a", "a\\b"] {
        assert!(matches!(setting.fetch_as(NAME, Some(revision)), Err(Error::Option { name: "revision", .. })));
    }
    // A revision that was there and is gone is not taken from the cache.
    setting.fetch().expect("it is there");
    setting.server.forget_revisions(NAME);
    setting.refusal();
}

#[test]
fn a_gated_model_says_how_to_get_access() {
    let setting = setting_of(Repository { is_gated: true, ..model() });
    let error = setting.refusal();
    let page = format!("ask for access at {}/{NAME}", setting.server.url());
    assert!(error.contains("gated") && error.contains(&page) && error.contains("HF_TOKEN"), "{error}");
}

#[test]
fn other_models_are_refused_before_their_weights_are_fetched() {
    let other =
        Repository::new(COMMIT).small("config.json", r#"{"model_type": "llama"}"#).large("model.safetensors", "w");
    let setting = setting_of(other);
    let error = setting.fetch().expect_err("no GPT-J");
    assert!(matches!(error, Error::Config { .. }), "{error}");
    assert!(setting.server.requests().iter().all(|request| !request.path.contains("safetensors")));

    let setting = setting_of(Repository::new(COMMIT).small("config.json", CONFIG).large("tf_model.h5", "TensorFlow's"));
    let error = setting.refusal();
    assert!(error.contains("model.safetensors") && error.contains("pytorch_model.bin"), "{error}");
}

#[test]
fn a_moved_branch_is_followed() {
    let setting = setting_of(model());
    let old = setting.fetch().expect("it is there");
    setting.server.forget_revisions(NAME);
    let new = Repository::new(OTHER_COMMIT).small("config.json", CONFIG).large("model.safetensors", "better ones");
    setting.server.add(NAME, new);
    let snapshot = setting.fetch().expect("it is there");
    assert_eq!((snapshot.commit.as_str(), snapshot.fetched), (OTHER_COMMIT, 11));
    assert_eq!(read(&snapshot.path.join("model.safetensors")), b"better ones");
    // The file that did not change is not sent again.
    assert_eq!(gets(&setting.server.requests(), "config.json"), 1);
    assert_eq!(read(&old.path.join("model.safetensors")), WEIGHTS.as_bytes());
    assert_eq!(read(&setting.repository().join("refs/main")), OTHER_COMMIT.as_bytes());
}

#[test]
fn while_a_new_commit_is_not_whole_the_old_one_is_the_cached_one() {
    let setting = setting_of(model());
    let old = setting.fetch().expect("it is there").path;
    setting.server.forget_revisions(NAME);
    let new = Repository::new(OTHER_COMMIT).small("config.json", CONFIG).large("model.safetensors", "better ones");
    setting.server.add(NAME, new);
    setting.server.fail("GET", &sha256(b"better ones"), Fault::Damage, 1);
    setting.refusal();
    let cached = setting.hub.cached(&name(NAME), None).expect("a good revision").expect("it is cached");
    assert_eq!(cached.path, old);
}

#[test]
fn revisions_are_branches_tags_and_requests() {
    let half = Repository { revisions: vec!["float16".to_owned(), "refs/pr/1".to_owned()], ..model() };
    let half = Repository { commit: OTHER_COMMIT.to_owned(), ..half };
    let setting = setting_of(model());
    setting.server.add(NAME, half);
    for revision in ["float16", "refs/pr/1"] {
        assert_eq!(setting.fetch_as(NAME, Some(revision)).expect("it is there").commit, OTHER_COMMIT);
        assert_eq!(read(&setting.repository().join("refs").join(revision)), OTHER_COMMIT.as_bytes());
    }
    let asked = lines(&setting.server.requests());
    assert!(asked.contains(&format!("GET /api/models/{NAME}/revision/refs%2Fpr%2F1")), "{asked:?}");
}

#[test]
fn a_renamed_model_is_found() {
    let setting = setting_of(model());
    setting.server.rename(NAME, "new-org/new-model");
    setting.fetch().expect("the old name leads to it");
    assert!(setting.repository().join("refs/main").exists(), "the cache has it under the name that was asked for");
}

#[test]
fn a_gguf_file_is_fetched_by_name() {
    let repository =
        Repository::new(COMMIT).large("gpt-j-q4_0.gguf", "four bits").large("half/gpt-j-f16.gguf", "sixteen");
    let mut setting = setting_of(repository);
    let error = setting.refusal();
    assert!(error.contains("GGUF") && error.contains("gpt-j-q4_0.gguf"), "{error}");
    let snapshot = setting.fetch_as("org/model:Q4_0", None).expect("it is there");
    assert_eq!(snapshot.path, setting.repository().join("snapshots").join(COMMIT).join("gpt-j-q4_0.gguf"));
    assert_eq!(read(&snapshot.path), b"four bits");
    let nested = setting.fetch_as("org/model:half/gpt-j-f16.gguf", None).expect("it is there");
    assert_eq!(read(&nested.path), b"sixteen");
    let error = setting.fetch_as("org/model:q8_0", None).expect_err("it is not there").to_string();
    assert!(error.contains("no file 'q8_0'") && error.contains("gpt-j-q4_0.gguf"), "{error}");
    setting.hub = setting.hub.with_offline(true);
    assert_eq!(setting.fetch_as("org/model:Q4_0", None).expect("it is cached").path, snapshot.path);
}

#[test]
fn two_at_once_fetch_each_file_once() {
    let (repository, weights) = long_model();
    let setting = setting_of(repository);
    let hash = sha256(&weights);
    setting.server.fail("GET", &hash, Fault::Slow(Duration::from_millis(5)), 1);
    std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| setting.fetch().expect("it is there")));
        for snapshot in both.map(|thread| thread.join().expect("no panic")) {
            assert_eq!(read(&snapshot.path.join("model.safetensors")), weights);
        }
    });
    assert_eq!(gets(&setting.server.requests(), &hash), 1);
}

#[test]
fn without_symlinks_there_are_files() {
    let setting = setting_of(model());
    let setting = Setting { hub: setting.hub.clone().with_symlinks(false), ..setting };
    let snapshot = setting.fetch().expect("it is there");
    let file = snapshot.path.join("model.safetensors");
    assert!(!file.is_symlink());
    assert_eq!(read(&file), WEIGHTS.as_bytes());
    assert_eq!(setting.fetch().expect("it is cached").fetched, 0);
}

#[test]
fn a_disk_that_is_too_small_is_named() {
    let setting = setting_of(model());
    setting.server.fail("HEAD", "model.safetensors", Fault::Size(1 << 60), 1);
    let error = setting.refusal();
    assert!(error.contains("1152921504.61 GB are to be fetched") && error.contains("blobs has "), "{error}");
    assert_eq!(gets(&setting.server.requests(), "model.safetensors"), 0);
}

#[test]
fn another_server_is_told_from_the_hub() {
    let setting = setting_of(model());
    setting.server.fail("GET", "/revision/main", Fault::Damage, 1);
    let error = setting.refusal();
    assert!(error.contains("does not answer as the Hub does") && error.contains("HF_ENDPOINT"), "{error}");
}

#[test]
fn hashes_of_the_server_are_git_s_and_sha256sum_s() {
    assert_eq!(git_hash(CONFIG.as_bytes()), CONFIG_HASH);
    assert_eq!(sha256(WEIGHTS.as_bytes()), WEIGHTS_HASH);
}
