//! The environment variables of huggingface_hub, by its rules and in its order of precedence.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Hub;
use crate::error::{Error, Result};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Reads variables; an empty one counts as not set.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| value.to_string_lossy().trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn is_set(&self, name: &str) -> bool {
        let is_yes = |value: String| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str());
        self.text(name).is_some_and(is_yes)
    }

    /// A directory; a leading `~` is the user's home directory.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.get(name)?);
        match (path.strip_prefix("~"), std::env::home_dir()) {
            (Ok(rest), Some(home)) => Some(home.join(rest)),
            _ => Some(path),
        }
    }

    fn home(&self) -> Result<PathBuf> {
        let cache = || self.path("XDG_CACHE_HOME").or_else(|| Some(std::env::home_dir()?.join(".cache")));
        let home = self.path("HF_HOME").or_else(|| Some(cache()?.join("huggingface")));
        home.ok_or_else(|| Error::option("HF_HOME", "must name a directory; this user has no home directory"))
    }

    fn cache_dir(&self) -> Result<PathBuf> {
        let named = self.path("HF_HUB_CACHE").or_else(|| self.path("HUGGINGFACE_HUB_CACHE"));
        named.map_or_else(|| Ok(self.home()?.join("hub")), Ok)
    }

    fn token(&self) -> Result<Option<String>> {
        if self.is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            return Ok(None);
        }
        if let Some(token) = self.text("HF_TOKEN").or_else(|| self.text("HUGGING_FACE_HUB_TOKEN")) {
            return Ok(Some(token));
        }
        let path = match self.path("HF_TOKEN_PATH") {
            Some(path) => path,
            None => self.home()?.join("token"),
        };
        read_token(&path)
    }
}

fn read_token(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|token| !token.is_empty())),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(Error::read(path, error)),
    }
}

impl Hub {
    /// The Hub as huggingface_hub would use it on this machine, by `HF_ENDPOINT`; `HF_HUB_CACHE` (or
    /// `HUGGINGFACE_HUB_CACHE`, or `hub` in `HF_HOME`, or `huggingface/hub` in `XDG_CACHE_HOME` or `~/.cache`);
    /// `HF_TOKEN` (or `HUGGING_FACE_HUB_TOKEN`, or the file `HF_TOKEN_PATH`, or `token` in `HF_HOME`; none with
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN=1`); `HF_HUB_OFFLINE=1` (or `TRANSFORMERS_OFFLINE=1`);
    /// `HF_HUB_DISABLE_SYMLINKS=1`. A proxy is taken from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
    ///
    /// # Errors
    /// If `HF_ENDPOINT` is not a URL, the file with the token cannot be read, or there is no home directory.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(&|name| std::env::var_os(name))
    }

    /// As [`Hub::from_env`], with another source of the variables.
    ///
    /// # Errors
    /// As [`Hub::from_env`].
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        let variables = Variables(variable);
        let endpoint = variables.text("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|name| variables.get(name).is_some());
        Ok(Self::new(&endpoint, variables.cache_dir()?)?
            .with_token(variables.token()?)
            .with_offline(offline.is_some_and(|name| variables.is_set(name)))
            .with_symlinks(!variables.is_set("HF_HUB_DISABLE_SYMLINKS")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(set: &[(&str, &str)]) -> Result<Hub> {
        Hub::from_variables(&|name| set.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn the_cache_is_huggingfaces() {
        let cache = |set: &[(&str, &str)]| hub(set).expect("sound variables").cache_dir().to_owned();
        let all =
            [("HF_HUB_CACHE", "/a"), ("HUGGINGFACE_HUB_CACHE", "/b"), ("HF_HOME", "/c"), ("XDG_CACHE_HOME", "/d")];
        let expected = ["/a", "/b", "/c/hub", "/d/huggingface/hub"].map(PathBuf::from);
        for (index, expected) in expected.iter().enumerate() {
            assert_eq!(cache(&all[index..]), *expected);
        }
        let home = std::env::home_dir().expect("a home");
        assert_eq!(cache(&[]), home.join(".cache/huggingface/hub"));
        assert_eq!(cache(&[("HF_HOME", "~/models"), ("HF_HUB_CACHE", "")]), home.join("models/hub"));
    }

    #[test]
    fn the_token_is_the_one_that_huggingface_sends() {
        let directory = tempfile::tempdir().expect("a directory");
        let home = directory.path().to_str().expect("a name");
        let other = directory.path().join("other");
        std::fs::write(directory.path().join("token"), "of-home\n").expect("a file");
        std::fs::write(&other, "of-path").expect("a file");
        let all = [
            ("HF_TOKEN", " of-variable\n"),
            ("HUGGING_FACE_HUB_TOKEN", "of-old-variable"),
            ("HF_TOKEN_PATH", other.to_str().expect("a name")),
            ("HF_HOME", home),
        ];
        let token = |set: &[(&str, &str)]| hub(set).expect("sound variables").token().map(str::to_owned);
        for (index, expected) in ["of-variable", "of-old-variable", "of-path", "of-home"].into_iter().enumerate() {
            assert_eq!(token(&all[index..]).as_deref(), Some(expected));
        }
        assert_eq!(token(&[all[0], ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert_eq!(token(&[("HF_HOME", "/nowhere")]), None);
        let shown = format!("{:?}", hub(&all).expect("sound variables"));
        assert!(!shown.contains("of-variable"), "a token is not for logs: {shown}");
    }

    #[test]
    fn offline_is_what_huggingface_takes_for_yes() {
        let is_offline = |set: &[(&str, &str)]| hub(set).expect("sound variables").is_offline();
        for yes in ["1", "on", "YES", "true"] {
            assert!(is_offline(&[("HF_HUB_OFFLINE", yes)]) && is_offline(&[("TRANSFORMERS_OFFLINE", yes)]));
        }
        assert!(!is_offline(&[]) && !is_offline(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]));
    }

    #[test]
    fn an_endpoint_is_a_url() {
        let endpoint = |text| hub(&[("HF_ENDPOINT", text)]).map(|hub| hub.endpoint().to_owned());
        assert_eq!(endpoint("https://mirror.example/hf/").expect("a URL"), "https://mirror.example/hf");
        assert_eq!(endpoint("").expect("not set"), "https://huggingface.co");
        for bad in ["mirror.example", "ftp://mirror.example", "https://"] {
            assert!(matches!(endpoint(bad), Err(Error::Option { name: "HF_ENDPOINT", .. })), "{bad}");
        }
    }
}
