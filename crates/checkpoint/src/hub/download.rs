//! Downloads a file from the Hub to the cache: resumed, verified, and renamed only when complete.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::cache::RepositoryCache;
use super::client::{Client, Failure, Patience, RemoteFile, broken};
use super::digest::Digest;
use super::transfer::FileTransfer;
use crate::error::Error;

/// Bytes per read.
const BUFFER_BYTES: usize = 1 << 18;

/// A file to download.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) cache: &'a RepositoryCache,
    pub(super) repository: &'a str,
    pub(super) commit: &'a str,
    pub(super) file: &'a RemoteFile,
}

/// A partial file, and the hash of the part.
struct Part {
    path: PathBuf,
    file: File,
    digest: Digest,
    length: u64,
}

impl Download<'_> {
    /// Downloads the blob. The caller must hold its lock.
    pub(super) fn run(&self, progress: &mut FileTransfer<'_>, patience: &mut Patience<'_>) -> Result<(), Failure> {
        let mut part = self.open(progress)?;
        let resumed = part.length > 0;
        self.complete(&mut part, progress, patience)?;
        match self.keep(part) {
            // The part of an earlier run may be damaged: download the file from the beginning, once.
            Err(_) if resumed => {
                let mut part = self.open(progress)?;
                self.complete(&mut part, progress, patience)?;
                self.keep(part)
            }
            kept => kept,
        }
    }

    /// Opens and hashes the part on disk.
    fn open(&self, progress: &mut FileTransfer<'_>) -> Result<Part, Failure> {
        let path = self.cache.incomplete(&self.file.etag);
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(|error| Error::write(&path, error))?;
        let mut part = Part { path, file, digest: self.digest(), length: 0 };
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = part.file.read(&mut buffer).map_err(|error| Error::read(&part.path, error))?;
            if part.length + count as u64 > self.file.size {
                self.restart(&mut part)?;
            } else {
                part.digest.update(&buffer[..count]);
                part.length += count as u64;
            }
            progress.set_done(part.length)?;
            if count == 0 || part.length == 0 {
                return Ok(part);
            }
        }
    }

    fn digest(&self) -> Digest {
        self.file.digest().expect("an ETag that is not a hash was refused")
    }

    /// Restarts the file from the beginning.
    fn restart(&self, part: &mut Part) -> Result<(), Failure> {
        let emptied = part.file.set_len(0).and_then(|()| part.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|error| Error::write(&part.path, error))?;
        (part.digest, part.length) = (self.digest(), 0);
        Ok(())
    }

    /// Downloads the rest, in as many requests as needed.
    fn complete(
        &self,
        part: &mut Part,
        progress: &mut FileTransfer<'_>,
        patience: &mut Patience<'_>,
    ) -> Result<(), Failure> {
        while part.length < self.file.size {
            let before = part.length;
            if let Err(failure) = self.append(part, progress) {
                if part.length > before {
                    patience.renew();
                }
                patience.wait_after(failure)?;
            }
        }
        Ok(())
    }

    /// Appends the bytes of one request.
    fn append(&self, part: &mut Part, progress: &mut FileTransfer<'_>) -> Result<(), Failure> {
        let RemoteFile { name, size, .. } = self.file;
        let mut arriving = self.client.get(self.repository, self.commit, name, part.length)?;
        if let Some(other) = arriving.size.filter(|other| other != size) {
            return Err(self.wrong_size(&format!("{other} arrive")));
        }
        if arriving.start == 0 && part.length > 0 {
            // The server does not support ranges.
            self.restart(part)?;
            progress.set_done(0)?;
        } else if arriving.start != part.length {
            return Err(Failure::Passing(format!("{name} arrives from byte {} on", arriving.start), None));
        }
        let mut buffer = vec![0; BUFFER_BYTES];
        while part.length < *size {
            match arriving.body.read(&mut buffer) {
                Ok(0) => return Err(broken(&ErrorKind::UnexpectedEof.into())),
                Ok(count) if part.length + count as u64 > *size => {
                    return Err(self.wrong_size("more arrive"));
                }
                Ok(count) => {
                    part.file.write_all(&buffer[..count]).map_err(|error| not_written(&part.path, error))?;
                    part.digest.update(&buffer[..count]);
                    part.length += count as u64;
                    progress.arrive(count as u64)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(())
    }

    fn wrong_size(&self, found: &str) -> Failure {
        let RemoteFile { name, size, .. } = self.file;
        Failure::Refused(format!("the Hub says that {name} has {size} bytes, but {found}; try again later"))
    }

    /// Renames a file whose hash is right; removes a wrong one.
    fn keep(&self, part: Part) -> Result<(), Failure> {
        let RemoteFile { name, etag, .. } = self.file;
        let Part { path, file, digest, .. } = part;
        let hash = digest.finish();
        if hash != *etag {
            drop(file);
            fs::remove_file(&path).map_err(|error| Error::write(&path, error))?;
            let reason = format!("{name} arrived damaged: its hash is {hash} instead of {etag}");
            return Err(Failure::Refused(format!("{reason}; it was removed, so try again")));
        }
        // Otherwise a power cut could keep the name but lose the contents.
        file.sync_data().map_err(|error| not_written(&path, error))?;
        drop(file);
        let blob = self.cache.blob(etag);
        match fs::rename(&path, &blob) {
            // On a file system without locks, another process may have finished first.
            Err(_) if blob.exists() => Ok(()),
            renamed => Ok(renamed.map_err(|error| Error::write(&blob, error))?),
        }
    }
}

fn not_written(path: &Path, error: io::Error) -> Failure {
    if error.kind() == ErrorKind::StorageFull {
        let directory = path.parent().unwrap_or(path).display();
        let reason = format!("the disk of {directory} is full; make room and try again; the partial file is kept");
        return Failure::Refused(reason);
    }
    Error::write(path, error).into()
}
