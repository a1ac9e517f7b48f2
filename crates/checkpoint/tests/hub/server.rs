//! A server on this machine that behaves like the Hugging Face Hub, and like its storage of large files, with
//! the faults that a test asks for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use sha1::{Digest, Sha1};
use sha2::Sha256;

/// A file of a repository.
#[derive(Clone)]
pub enum File {
    /// One that the Hub sends itself, named by Git's hash.
    Small(Vec<u8>),
    /// One that the Hub refers elsewhere for, and its SHA-256, which names it there.
    Large(Vec<u8>, String),
}

/// A repository at one commit.
#[derive(Clone, Default)]
pub struct Repository {
    pub commit: String,
    /// Branches and tags that are at this commit.
    pub revisions: Vec<String>,
    pub files: BTreeMap<String, File>,
    /// The token that it takes to see it.
    pub token: Option<String>,
    /// Whether all may see it, but nobody may have its files.
    pub is_gated: bool,
}

impl Repository {
    /// A public one with a branch `main` at this commit.
    pub fn new(commit: &str) -> Self {
        Self { commit: commit.to_owned(), revisions: vec!["main".to_owned()], ..Self::default() }
    }

    pub fn small(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(name.to_owned(), File::Small(bytes.into()));
        self
    }

    pub fn large(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let hash = sha256(&bytes);
        self.files.insert(name.to_owned(), File::Large(bytes, hash));
        self
    }
}

/// A fault.
#[derive(Clone)]
pub enum Fault {
    /// The connection ends after so many bytes of the answer's body.
    Cut(usize),
    /// This status, with these headers.
    Status(u16, &'static [(&'static str, &'static str)]),
    /// The headers tell of another size.
    Size(u64),
    /// More bytes come than the headers of the file tell of, and with no length of their own.
    Longer,
    /// A byte of the contents is another.
    Damage,
    /// The ETag is not a hash.
    Etag(String),
    /// All is sent whatever the range.
    NoRanges,
    /// The bytes come in pieces, with this wait after each.
    Slow(Duration),
}

/// A request that was made.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Lower-case names.
    pub headers: BTreeMap<String, String>,
    /// Whether it was made to the place of the large files.
    pub is_to_storage: bool,
}

#[derive(Default)]
struct State {
    repositories: Vec<(String, Repository)>,
    moved: BTreeMap<String, String>,
    /// For requests with this method whose path ends so, as often as this.
    faults: Vec<(&'static str, String, Fault, usize)>,
    requests: Vec<Request>,
}

/// The server; it runs until the process ends, or until it is told to leave.
pub struct Server {
    hub: SocketAddr,
    state: Arc<Mutex<State>>,
    left: Arc<AtomicBool>,
}

impl Server {
    pub fn start() -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a port");
        let (hub, storage) = (listen(), listen());
        let [hub_address, storage_address] = [&hub, &storage].map(|l| l.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(State::default()));
        let left = Arc::new(AtomicBool::new(false));
        for (listener, is_storage) in [(hub, false), (storage, true)] {
            let (state, left) = (Arc::clone(&state), Arc::clone(&left));
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    if left.load(Ordering::Relaxed) {
                        return;
                    }
                    let state = Arc::clone(&state);
                    // A client may hang up.
                    std::thread::spawn(move || _ = serve(&stream, &state, is_storage, storage_address));
                }
            });
        }
        Self { hub: hub_address, state, left }
    }

    /// The value for `HF_ENDPOINT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.hub)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a repository, or a further commit of one.
    pub fn add(&self, name: &str, repository: Repository) {
        self.state().repositories.push((name.to_owned(), repository));
    }

    /// Takes the revisions of all commits of a repository so far, to give them to another.
    pub fn forget_revisions(&self, name: &str) {
        for (_, repository) in self.state().repositories.iter_mut().filter(|(other, _)| other == name) {
            repository.revisions.clear();
        }
    }

    /// Gives a repository another name, to which the old one leads.
    pub fn rename(&self, from: &str, to: &str) {
        let mut state = self.state();
        for (name, _) in state.repositories.iter_mut().filter(|(name, _)| name == from) {
            *name = to.to_owned();
        }
        state.moved.insert(from.to_owned(), to.to_owned());
    }

    /// Makes something go wrong with the next so many requests that have this method and a path that ends so. Large
    /// files have their hash as a path where they lie.
    pub fn fail(&self, method: &'static str, path: &str, fault: Fault, times: usize) {
        self.state().faults.push((method, path.to_owned(), fault, times));
    }

    /// The requests since this was last asked.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().requests)
    }

    /// Nobody answers from now on.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
        // It waits for somebody.
        _ = TcpStream::connect(self.hub);
        while TcpStream::connect(self.hub).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Git's hash of a file.
pub fn git_hash(bytes: &[u8]) -> String {
    let mut hash = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hex(&hash.finalize())
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An answer, before its body.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    fn with(mut self, name: &str, value: &(impl ToString + ?Sized)) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    fn error(status: u16, code: &str, message: &str) -> Self {
        let mut answer = Self::new(status);
        answer.body = json!({ "error": message }).to_string().into_bytes();
        let answer = if code.is_empty() { answer } else { answer.with("X-Error-Code", code) };
        answer.with("X-Error-Message", message)
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>, is_to_storage: bool, storage: SocketAddr) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(()) };
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let request = Request { method: method.to_owned(), path, headers, is_to_storage };
    let (mut answer, fault) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.requests.push(request.clone());
        let fault = state.faults.iter_mut().find(|(method, path, _, times)| {
            *times > 0 && *method == request.method && request.path.ends_with(path.as_str())
        });
        let fault = fault.map(|(_, _, fault, times)| {
            *times -= 1;
            fault.clone()
        });
        let answer = if is_to_storage { from_storage(&state, &request) } else { from_hub(&state, &request, storage) };
        (answer, fault)
    };
    let mut has_length = true;
    match &fault {
        Some(Fault::Status(status, headers)) => {
            answer = Answer::error(*status, "", "as the test wants");
            for (name, value) in *headers {
                answer = answer.with(name, value);
            }
        }
        Some(Fault::Size(size)) => answer = replaced(answer, &["Content-Length", "X-Linked-Size"], &size.to_string()),
        Some(Fault::Etag(etag)) => answer = replaced(answer, &["ETag", "X-Linked-Etag"], etag),
        Some(Fault::Damage) => answer.body[0] ^= 1,
        Some(Fault::Longer) => {
            answer.body.push(0);
            has_length = false;
        }
        _ => {}
    }
    if answer.status == 200 && !matches!(fault, Some(Fault::NoRanges)) {
        answer = ranged(answer, request.headers.get("range").map(String::as_str));
    }
    write(stream, &request, &answer, has_length, fault.as_ref())
}

/// The part of a body that a range asks for.
fn ranged(mut answer: Answer, range: Option<&str>) -> Answer {
    let first = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let Some(first) = first else { return answer };
    let size = answer.body.len();
    if first >= size {
        return Answer::new(416).with("Content-Range", &format!("bytes */{size}"));
    }
    answer.status = 206;
    answer.body.drain(..first);
    answer.with("Content-Range", &format!("bytes {first}-{}/{size}", size - 1))
}

/// The answer with another value of those of these headers that it has; of a length it has one in any case.
fn replaced(mut answer: Answer, names: &[&str], value: &str) -> Answer {
    for (_, old) in answer.headers.iter_mut().filter(|(name, _)| names.contains(&name.as_str())) {
        *old = value.to_owned();
    }
    if names.contains(&"Content-Length") && !answer.headers.iter().any(|(name, _)| name == "X-Linked-Size") {
        answer = answer.with("Content-Length", value);
    }
    answer
}

fn write(
    mut stream: &TcpStream,
    request: &Request,
    answer: &Answer,
    has_length: bool,
    fault: Option<&Fault>,
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} -\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if has_length && !answer.headers.iter().any(|(name, _)| name == "Content-Length") {
        head += &format!("Content-Length: {}\r\n", answer.body.len());
    }
    stream.write_all((head + "\r\n").as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    match fault {
        Some(Fault::Cut(count)) => stream.write_all(&answer.body[..*count]),
        Some(Fault::Slow(wait)) => answer.body.chunks(1 << 16).try_for_each(|chunk| {
            stream.write_all(chunk)?;
            std::thread::sleep(*wait);
            Ok(())
        }),
        _ => stream.write_all(&answer.body),
    }
}

fn from_storage(state: &State, request: &Request) -> Answer {
    let files = state.repositories.iter().flat_map(|(_, repository)| repository.files.values());
    let mut large =
        files.filter_map(|file| if let File::Large(bytes, hash) = file { Some((bytes, hash)) } else { None });
    let Some((bytes, _)) = large.find(|(_, hash)| request.path[1..] == **hash) else {
        return Answer::error(404, "", "NoSuchKey");
    };
    let mut answer = Answer::new(200).with("ETag", "\"a hash of its own\"");
    answer.body.clone_from(bytes);
    answer
}

fn from_hub(state: &State, request: &Request, storage: SocketAddr) -> Answer {
    let parts: Vec<&str> = request.path[1..].split('/').collect();
    let (name, revision, file) = match parts.as_slice() {
        ["api", "models", name @ .., "revision", revision] => (name.join("/"), revision, None),
        [owner, name, "resolve", revision, file @ ..] => (format!("{owner}/{name}"), revision, Some(file.join("/"))),
        [name, "resolve", revision, file @ ..] => ((*name).to_owned(), revision, Some(file.join("/"))),
        _ => return Answer::error(404, "", "Sorry, we can't find the page you are looking for."),
    };
    if let Some(new) = state.moved.get(&name) {
        return Answer::new(307).with("Location", &request.path.replacen(&name, new, 1));
    }
    let token = request.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let mut commits = state.repositories.iter().filter(|(other, _)| *other == name).map(|(_, repository)| repository);
    let Some(first) =
        commits.clone().next().filter(|repository| repository.token.is_none() || repository.token.as_deref() == token)
    else {
        // As the Hub has it: without a token, it does not say whether there is such a repository.
        return match token {
            None => Answer::error(401, "RepoNotFound", "Invalid username or password."),
            Some(_) => Answer::error(404, "RepoNotFound", "Repository not found"),
        };
    };
    if first.is_gated && file.is_some() {
        return Answer::error(
            if token.is_some() { 403 } else { 401 },
            "GatedRepo",
            "Access to the model is restricted.",
        );
    }
    let revision = revision.replace("%2F", "/");
    let is_meant = |repository: &&Repository| repository.commit == revision || repository.revisions.contains(&revision);
    let Some(repository) = commits.find(is_meant) else {
        return Answer::error(404, "RevisionNotFound", "Invalid rev id");
    };
    let Some(file) = file else {
        let siblings: Vec<_> = repository.files.keys().map(|name| json!({ "rfilename": name })).collect();
        let mut answer = Answer::new(200).with("Content-Type", "application/json");
        answer.body = json!({ "id": name, "sha": repository.commit, "siblings": siblings }).to_string().into_bytes();
        return answer;
    };
    match repository.files.get(&file) {
        None => Answer::error(404, "EntryNotFound", "Entry not found"),
        Some(File::Small(bytes)) => {
            let mut answer = Answer::new(200).with("ETag", &format!("\"{}\"", git_hash(bytes)));
            answer.body.clone_from(bytes);
            answer.with("X-Repo-Commit", &repository.commit)
        }
        Some(File::Large(bytes, hash)) => Answer::new(302)
            .with("Location", &format!("http://{storage}/{hash}?signature=abc"))
            .with("X-Linked-Etag", &format!("\"{hash}\""))
            .with("X-Linked-Size", &bytes.len())
            .with("ETag", "\"of the answer itself\"")
            .with("X-Repo-Commit", &repository.commit),
    }
}
