//! Hashes of files: on the Hub, a file's ETag is a hash of its contents.

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// An incremental hash of a file's contents.
pub(super) enum Digest {
    /// Large files: SHA-256 of the contents.
    Sha256(Sha256),
    /// Others: SHA-1 of a Git blob, a header and the contents.
    GitBlob(Sha1),
}

impl Digest {
    /// A new hash of the ETag's kind, for contents of this size. `None` if the ETag is neither.
    pub(super) fn of(etag: &str, size: u64) -> Option<Self> {
        let is_hex = etag.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        match etag.len() {
            64 if is_hex => Some(Self::Sha256(Sha256::new())),
            40 if is_hex => Some(Self::GitBlob(Sha1::new_with_prefix(format!("blob {size}\0")))),
            _ => None,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::GitBlob(hash) => hash.update(bytes),
        }
    }

    /// The hash in hexadecimal digits.
    pub(super) fn finish(self) -> String {
        let hex = |hash: &[u8]| hash.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sha256(hash) => hex(&hash.finalize()),
            Self::GitBlob(hash) => hex(&hash.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;

    #[test]
    fn etags_are_the_hashes_of_git_and_lfs() {
        // `printf 'hello\n' | git hash-object --stdin`, and the same with sha256sum.
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        let lfs = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        for etag in [git, lfs] {
            let mut digest = Digest::of(etag, 6).expect("a hash");
            digest.update(b"hel");
            digest.update(b"lo\n");
            assert_eq!(digest.finish(), etag);
        }
        for other in ["", "abc", "../../x", &"g".repeat(40), &"A".repeat(64)] {
            assert!(Digest::of(other, 6).is_none(), "{other}");
        }
    }
}
