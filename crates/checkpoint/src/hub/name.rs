//! Names of models on the Hub, and how they are distinguished from paths.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::message::shown;

/// A model's name on the Hub: `ORG/NAME`, or `NAME` alone for the oldest models.
///
/// If one file of a repository is the whole model, as with GGUF, it follows after a colon: by its name,
/// `ORG/NAME:gpt-j-6b-q8_0.gguf`, or by its quantization, `ORG/NAME:Q8_0`.
///
/// ```
/// use gptj_checkpoint::hub::HubName;
///
/// let name: HubName = "EleutherAI/gpt-j-6b".parse()?;
/// assert_eq!((name.repository(), name.file()), ("EleutherAI/gpt-j-6b", None));
/// assert!("./gpt-j-6b".parse::<HubName>().is_err());
/// # Ok::<(), gptj_checkpoint::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HubName {
    repository: String,
    file: Option<String>,
}

impl HubName {
    /// The repository: the name without a file.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The part after the colon, if any: a file's name or a quantization.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }
}

impl FromStr for HubName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (repository, file) = match text.split_once(':') {
            Some((repository, file)) => (repository, Some(file)),
            None => (text, None),
        };
        if !is_repository(repository) {
            let reason = "not a name there; names are NAME or ORG/NAME, of ASCII letters, digits and single '-', '_' \
                          and '.'";
            return Err(Error::hub(&shown(text), reason));
        }
        if file.is_some_and(|file| !is_relative(file)) {
            return Err(Error::hub(
                &shown(text),
                "after the colon must be a file's name, or a quantization such as Q8_0",
            ));
        }
        Ok(Self { repository: repository.to_owned(), file: file.map(str::to_owned) })
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        match &self.file {
            Some(file) => write!(f, ":{file}"),
            None => Ok(()),
        }
    }
}

/// huggingface_hub's rules for the id of a repository.
fn is_repository(text: &str) -> bool {
    const LONGEST: usize = 96;
    let is_part = |part: &str| {
        let is_word = |char: char| char.is_ascii_alphanumeric() || char == '_';
        part.chars().all(|char| is_word(char) || "-.".contains(char))
            && part.starts_with(is_word)
            && part.ends_with(is_word)
    };
    let (organization, name) = match text.split_once('/') {
        Some((organization, name)) => (Some(organization), name),
        None => (None, text),
    };
    organization.is_none_or(is_part)
        && is_part(name)
        && name.len() <= LONGEST
        && !["--", ".."].iter().any(|forbidden| text.contains(forbidden))
        && !text.ends_with(".git")
}

/// Whether a name with slashes, joined to a directory, stays below it on any system.
pub(super) fn is_relative(name: &str) -> bool {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    name.split('/').all(is_plain) && !name.contains(|char: char| char.is_control() || "\\:".contains(char))
}

/// The location of a model that a user named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file or directory.
    Path(PathBuf),
    /// On the Hub.
    Hub(HubName),
}

impl Location {
    /// A path if the file or directory exists, otherwise a name on the Hub. `./NAME` is always a path.
    ///
    /// # Errors
    /// [`Error::Read`] if it is neither.
    pub fn of(model: &Path) -> Result<Self> {
        if model.symlink_metadata().is_ok() {
            return Ok(Self::Path(model.to_owned()));
        }
        let name = model.to_str().and_then(|text| text.parse().ok());
        name.map(Self::Hub).ok_or_else(|| {
            let reason = "no such file or directory, and not a name on the Hugging Face Hub, as in ORG/NAME";
            Error::read(model, std::io::Error::new(std::io::ErrorKind::NotFound, reason))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_huggingface() {
        for good in ["gpt2", "EleutherAI/gpt-j-6b", "123", "Foo-BAR_foo.bar123", "a/b_", "_a/b", &"x".repeat(96)] {
            assert_eq!(good.parse::<HubName>().expect(good).to_string(), *good);
        }
        let long = "x".repeat(97);
        let bad =
            ["", "/", "a/", "/a", "a/b/c", ".a", "a.", "-a/b", "a/-b", "a--b", "a..b", "foo.git", "a b", "é", "a\\b"];
        for bad in bad.into_iter().chain([long.as_str(), "./a", "../a", "~/a", "C:\\models\\a", "a:", "a:../b", "a:/b"])
        {
            assert!(bad.parse::<HubName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_comes_after_a_colon() {
        let name: HubName = "a/b:sub/c-Q8_0.gguf".parse().expect("a name");
        assert_eq!((name.repository(), name.file()), ("a/b", Some("sub/c-Q8_0.gguf")));
        assert_eq!(name.to_string(), "a/b:sub/c-Q8_0.gguf");
    }

    #[test]
    fn an_existing_path_wins() {
        let of = |text: &str| Location::of(Path::new(text));
        assert_eq!(of("src/hub").expect("tests run in the crate"), Location::Path("src/hub".into()));
        assert_eq!(of("no/src").expect("a name"), Location::Hub("no/src".parse().expect("a name")));
        let Err(Error::Read { path, source }) = of("./no-such-model") else { panic!("it is neither") };
        let reason = source.to_string();
        assert_eq!(path, Path::new("./no-such-model"));
        assert!(reason.contains("no such file or directory") && reason.contains("Hugging Face Hub"), "{reason}");
    }
}
