//! Requests to the Hub, and its responses.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LOCATION, RANGE, RETRY_AFTER,
};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri};
use ureq::{Agent, Body};

use super::cache::{Revision, is_commit};
use super::digest::Digest;
use super::name::is_relative;
use super::transfer::Transfer;
use crate::error::Error;
use crate::message::shown;

/// The time to wait for a connection, and for bytes on one; huggingface_hub's default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The most retries of a request, and the longest wait between them as a multiple of the first.
const RETRIES: u32 = 5;
const LONGEST_WAIT: u32 = 8;

/// The longest `Retry-After` that is honoured.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// All characters but the unreserved ones of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// No response.
    Unreachable(String),
    /// The server is busy or has an error, or the connection broke; worth a retry, after this wait if the server asks.
    Passing(String, Option<Duration>),
    /// The Hub refused, or its response is not usable.
    Refused(String),
    /// The repository has no such revision.
    NoRevision(String),
    /// An error on this machine, or a stop by the caller.
    Here(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Here(error)
    }
}

impl Failure {
    /// Converts it to an error about a model.
    pub(super) fn about(self, name: &str) -> Error {
        match self {
            Self::Unreachable(reason) | Self::Passing(reason, _) | Self::Refused(reason) | Self::NoRevision(reason) => {
                Error::hub(name, reason)
            }
            Self::Here(error) => error,
        }
    }
}

/// Retries with exponential backoff: each wait is twice as long as the one before.
pub(super) struct Patience<'a> {
    transfer: &'a Transfer,
    first: Duration,
    failures: u32,
}

impl<'a> Patience<'a> {
    pub(super) fn new(transfer: &'a Transfer, first: Duration) -> Self {
        Self { transfer, first, failures: 0 }
    }

    /// Resets the count of retries, after bytes have arrived.
    pub(super) fn renew(&mut self) {
        self.failures = 0;
    }

    /// Waits until the request may be retried; returns the failure if it may not.
    pub(super) fn wait_after(&mut self, failure: Failure) -> Result<(), Failure> {
        let asked = match &failure {
            Failure::Unreachable(_) => None,
            Failure::Passing(_, asked) => *asked,
            Failure::Refused(_) | Failure::NoRevision(_) | Failure::Here(_) => return Err(failure),
        };
        if self.failures == RETRIES || asked.is_some_and(|asked| asked > LONGEST_RETRY_AFTER) {
            return Err(failure);
        }
        let wait = self.first * LONGEST_WAIT.min(1 << self.failures);
        self.failures += 1;
        Ok(self.transfer.wait(wait.max(asked.unwrap_or_default()))?)
    }
}

/// A revision of a repository.
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<String>,
}

/// A file as the Hub describes it.
pub(super) struct RemoteFile {
    pub(super) name: String,
    /// The hash of its contents.
    pub(super) etag: String,
    pub(super) size: u64,
}

impl RemoteFile {
    /// The hash to compute of its contents; `None` if the ETag is not a hash.
    pub(super) fn digest(&self) -> Option<Digest> {
        Digest::of(&self.etag, self.size)
    }
}

/// A response with bytes of a file.
pub(super) struct Arriving {
    /// The offset of the first byte in the file.
    pub(super) start: u64,
    /// The file's size, if the response has it.
    pub(super) size: Option<u64>,
    pub(super) body: Box<dyn Read>,
}

#[derive(Clone)]
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

impl Client {
    /// `None` if the endpoint is not an HTTP URL.
    pub(super) fn new(endpoint: &str) -> Option<Self> {
        let endpoint = endpoint.trim_end_matches('/');
        let url: Uri = endpoint.parse().ok()?;
        if !["http", "https"].contains(&url.scheme_str()?) || url.query().is_some() {
            return None;
        }
        let agent = Agent::config_builder()
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // Redirects are followed here, so that only the Hub gets the token.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(TIMEOUT))
            .timeout_per_read(Some(TIMEOUT))
            .timeout_per_write(Some(TIMEOUT))
            .build();
        Some(Self { agent: agent.into(), endpoint: endpoint.to_owned(), token: None })
    }

    pub(super) fn set_token(&mut self, token: Option<String>) {
        self.token = token;
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The commit and the files of a revision.
    pub(super) fn list(&self, repository: &str, revision: &Revision) -> Result<Listing, Failure> {
        const LARGEST: u64 = 64 << 20;
        #[derive(Deserialize)]
        struct Model {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let revision = utf8_percent_encode(revision.name(), RESERVED);
        let url = format!("{}/api/models/{repository}/revision/{revision}", self.endpoint);
        let response = self.request(repository, Method::Get, &url, 0)?;
        let mut text = Vec::new();
        response.into_body().into_reader().take(LARGEST).read_to_end(&mut text).map_err(|error| broken(&error))?;
        let model: Model = serde_json::from_slice(&text).map_err(|_| self.unlike_the_hub())?;
        if !is_commit(&model.sha) {
            return Err(self.unlike_the_hub());
        }
        let files =
            model.siblings.into_iter().map(|sibling| sibling.rfilename).filter(|name| is_relative(name)).collect();
        Ok(Listing { commit: model.sha, files })
    }

    /// A file's hash and size, from the response headers; for a large file, from those of the redirect to its storage.
    pub(super) fn head(&self, repository: &str, commit: &str, name: &str) -> Result<RemoteFile, Failure> {
        let url = self.file_url(repository, commit, name);
        let response = self.request(repository, Method::Head, &url, 0)?;
        let headers = response.headers();
        let etag = text(headers, &LINKED_ETAG).or_else(|| text(headers, &ETAG));
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
        let length = || text(headers, &CONTENT_LENGTH).filter(|_| response.status().is_success());
        let size = text(headers, &LINKED_SIZE).or_else(length).and_then(|size| size.parse().ok());
        match (etag, size, text(headers, &REPO_COMMIT)) {
            (Some(etag), Some(size), Some(found)) if found == commit => {
                let file = RemoteFile { name: name.to_owned(), etag: etag.to_owned(), size };
                file.digest().map(|_| file).ok_or_else(|| {
                    let wrong = format!("the ETag of {name} is neither a SHA-256 nor a Git hash");
                    Failure::Refused(format!("{wrong}; {} is not compatible with the Hub", self.endpoint))
                })
            }
            _ => Err(self.unlike_the_hub()),
        }
    }

    /// The bytes of a file from `start` on, or from its beginning if the server does not support ranges.
    pub(super) fn get(&self, repository: &str, commit: &str, name: &str, start: u64) -> Result<Arriving, Failure> {
        let url = self.file_url(repository, commit, name);
        let response = self.request(repository, Method::Get, &url, start)?;
        let headers = response.headers();
        let (start, size) = if response.status() == StatusCode::PARTIAL_CONTENT {
            let range = text(headers, &CONTENT_RANGE).and_then(|range| {
                let (range, size) = range.strip_prefix("bytes ")?.split_once('/')?;
                Some((range.split_once('-')?.0.parse().ok()?, size.parse().ok()))
            });
            range.ok_or_else(|| self.unlike_the_hub())?
        } else {
            (0, text(headers, &CONTENT_LENGTH).and_then(|size| size.parse().ok()))
        };
        Ok(Arriving { start, size, body: Box::new(response.into_body().into_reader()) })
    }

    fn file_url(&self, repository: &str, commit: &str, name: &str) -> String {
        let path: Vec<_> = name.split('/').map(|part| utf8_percent_encode(part, RESERVED).to_string()).collect();
        format!("{}/{repository}/resolve/{commit}/{}", self.endpoint, path.join("/"))
    }

    fn unlike_the_hub(&self) -> Failure {
        Failure::Refused(format!(
            "{} does not answer as the Hub does; check HF_ENDPOINT and the proxy variables",
            self.endpoint
        ))
    }

    /// Makes a request and follows redirects. Only the Hub gets the token. A `HEAD` stops at a redirect that describes
    /// its target or leads away from the Hub.
    fn request(&self, repository: &str, method: Method, url: &str, start: u64) -> Result<Response<Body>, Failure> {
        const MOST_REDIRECTS: usize = 10;
        let mut url: Uri = url.parse().map_err(|_| self.unlike_the_hub())?;
        let first = url.clone();
        let hub = origin(&first);
        for _ in 0..=MOST_REDIRECTS {
            let request = match method {
                Method::Get => self.agent.get(&url),
                Method::Head => self.agent.head(&url),
            };
            let mut request = request.header(ACCEPT_ENCODING, "identity");
            if start > 0 {
                request = request.header(RANGE, format!("bytes={start}-"));
            }
            if let Some(token) = self.token.as_ref().filter(|_| origin(&url) == hub) {
                let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
                    Failure::Refused("the token in HF_TOKEN has characters that a token cannot have".to_owned())
                })?;
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
            let response = request.call().map_err(|error| not_answered(&url, &error))?;
            let status = response.status();
            let location = text(response.headers(), &LOCATION).filter(|_| status.is_redirection());
            let Some(location) = location else {
                return if status.is_success() { Ok(response) } else { Err(self.refusal(repository, &response)) };
            };
            let next = resolve(location, &url).ok_or_else(|| self.unlike_the_hub())?;
            let is_described = response.headers().contains_key(&LINKED_ETAG) || origin(&next) != hub;
            if matches!(method, Method::Head) && is_described {
                return Ok(response);
            }
            url = next;
        }
        Err(self.unlike_the_hub())
    }

    /// The failure of a response.
    fn refusal(&self, repository: &str, response: &Response<Body>) -> Failure {
        let (status, headers) = (response.status(), response.headers());
        let message = text(headers, &ERROR_MESSAGE).map_or_else(String::new, |text| format!(" ({})", shown(text)));
        let code = text(headers, &ERROR_CODE).unwrap_or_default();
        let token = match self.token {
            Some(_) => "whose owner may read it; the one in use may not",
            None => "whose owner may read it; none is set",
        };
        let page = format!("{}/{repository}", self.endpoint);
        match (status.as_u16(), code) {
            (_, "RevisionNotFound") => Failure::NoRevision(format!("it has no such branch, tag or commit{message}")),
            (_, "EntryNotFound") => Failure::Refused(format!("a file is not there{message}")),
            (_, "GatedRepo") => Failure::Refused(format!(
                "the model is gated: ask for access at {page}, and set HF_TOKEN to a token {token}{message}"
            )),
            (401 | 404, _) | (_, "RepoNotFound") => Failure::Refused(format!(
                "there is no such model, or it is private: a private one needs HF_TOKEN, a token {token}{message}"
            )),
            (403, _) => Failure::Refused(format!(
                "access is forbidden: see {page}, and set HF_TOKEN to a token {token}{message}"
            )),
            (408 | 429 | 500..=599, _) => {
                let asked =
                    text(headers, &RETRY_AFTER).and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
                Failure::Passing(format!("the server answers {status}{message}; try again later"), asked)
            }
            _ => Failure::Refused(format!("the server answers {status}{message}")),
        }
    }
}

#[derive(Clone, Copy)]
enum Method {
    Get,
    Head,
}

const REPO_COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");
const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");
const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
const ERROR_MESSAGE: HeaderName = HeaderName::from_static("x-error-message");

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Protocol, host and port.
fn origin(url: &Uri) -> (Option<&str>, Option<String>, Option<u16>) {
    let default = if url.scheme_str() == Some("http") { 80 } else { 443 };
    (url.scheme_str(), url.host().map(str::to_lowercase), Some(url.port_u16().unwrap_or(default)))
}

/// The target of a redirect, which may be only a path.
fn resolve(location: &str, from: &Uri) -> Option<Uri> {
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    let url = match location {
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        _ => location.to_owned(),
    };
    url.parse().ok().filter(|url: &Uri| ["http", "https"].map(Some).contains(&url.scheme_str()))
}

fn not_answered(url: &Uri, error: &ureq::Error) -> Failure {
    let reason = format!("{} cannot be reached: {error}", url.host().unwrap_or_default());
    let has_broken = match error {
        ureq::Error::Io(error) => {
            matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe)
        }
        ureq::Error::Protocol(_) => true,
        _ => false,
    };
    if has_broken { Failure::Passing(reason, None) } else { Failure::Unreachable(reason) }
}

/// The failure of a broken connection.
pub(super) fn broken(error: &std::io::Error) -> Failure {
    Failure::Passing(format!("the connection broke: {error}"), None)
}
