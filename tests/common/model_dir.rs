//! Model directories to damage, one thing at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;
use tempfile::TempDir;

use super::golden::{self, read};

/// The smallest of the goldens: two blocks, a vocabulary of 200, a context of 24; no tokenizer.
pub const NARROW: &str = "tests/golden/narrow_mlp";

/// A file of it.
pub fn sound(file: &str) -> Vec<u8> {
    read(Path::new(NARROW).join(file))
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

/// Copies a directory and all in it.
pub fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let from = entry.expect("an entry").path();
        let to = to.join(from.file_name().expect("an entry has a name"));
        if from.is_dir() {
            copy_all(&from, &to);
        } else {
            std::fs::copy(from, to).expect("room for a small file");
        }
    }
}

/// A directory of its own for each test.
pub struct ModelDir(TempDir);

impl ModelDir {
    pub fn empty() -> Self {
        Self(TempDir::new().expect("a temporary directory"))
    }

    /// [`NARROW`].
    pub fn sound() -> Self {
        Self::empty().with("config.json", sound("config.json")).with("model.safetensors", sound("model.safetensors"))
    }

    /// A copy of a directory in `tests`.
    pub fn copy_of(name: impl AsRef<Path>) -> Self {
        let copy = Self::empty();
        copy_all(&golden::path(name), copy.path());
        copy
    }

    /// Adds or replaces a file.
    pub fn with(self, file: &str, contents: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.file(file), contents).expect("room for a small file");
        self
    }

    pub fn without(self, file: &str) -> Self {
        std::fs::remove_file(self.file(file)).expect("it was there");
        self
    }

    /// Replaces some keys of its configuration.
    pub fn with_config(self, changes: &Value) -> Self {
        self.with_json("config.json", changes)
    }

    /// Replaces some keys of a JSON file.
    pub fn with_json(self, file: &str, changes: &Value) -> Self {
        let mut object: Value = serde_json::from_slice(&read(self.file(file))).expect("JSON");
        replace(&mut object, changes);
        self.with(file, object.to_string())
    }

    /// Changes its tensors.
    pub fn with_tensors(self, change: impl FnOnce(&mut Tensors)) -> Self {
        self.with_tensors_of("model.safetensors", change)
    }

    /// Changes the tensors of a file.
    pub fn with_tensors_of(self, file: &str, change: impl FnOnce(&mut Tensors)) -> Self {
        let mut tensors = Tensors::open(self.file(file));
        change(&mut tensors);
        self.with(file, tensors.to_file())
    }

    pub fn file(&self, file: &str) -> PathBuf {
        self.path().join(file)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Its path as an argument.
    pub fn text(&self) -> &str {
        text(self.path())
    }
}

/// Replaces keys of a JSON object by those of another.
pub fn replace(object: &mut Value, changes: &Value) {
    for (key, value) in changes.as_object().expect("an object") {
        object[key] = value.clone();
    }
}

/// The tensors of a safetensors file: formats, shapes, and bytes.
#[derive(Clone, Default)]
pub struct Tensors(pub BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    pub fn open(path: impl AsRef<Path>) -> Self {
        let bytes = read(path);
        let file = SafeTensors::deserialize(&bytes).expect("the generator writes sound files");
        let parts = |view: TensorView<'_>| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        Self(file.tensors().into_iter().map(|(name, view)| (name, parts(view))).collect())
    }

    /// Adds or replaces a tensor.
    pub fn insert<T: bytemuck::NoUninit>(&mut self, name: &str, dtype: Dtype, shape: &[usize], numbers: &[T]) {
        self.0.insert(name.to_owned(), (dtype, shape.to_vec(), bytemuck::cast_slice(numbers).to_vec()));
    }

    /// Replaces a tensor by zeros, and returns these.
    pub fn zeros(&mut self, name: &str, dtype: Dtype, shape: &[usize]) -> &mut [u8] {
        let bytes = vec![0u8; shape.iter().product::<usize>() * dtype.bitsize() / 8];
        self.insert(name, dtype, shape, &bytes);
        self.bytes(name)
    }

    /// The bytes of a tensor.
    pub fn bytes(&mut self, name: &str) -> &mut [u8] {
        &mut self.0.get_mut(name).expect("it is there").2
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        let tensor = self.0.remove(from).expect("it was there");
        self.0.insert(to.to_owned(), tensor);
    }

    pub fn to_file(&self) -> Vec<u8> {
        let views = self.0.iter().map(|(name, (dtype, shape, bytes))| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).expect("as many bytes as the shape needs"))
        });
        safetensors::serialize(views, None).expect("sound tensors")
    }
}

/// A safetensors file of this header and the tensors of the sound one.
pub fn with_header(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let file = sound("model.safetensors");
    let (length, rest) = file.split_first_chunk::<8>().expect("a header's length");
    let (header, tensors) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: Value = serde_json::from_slice(header).expect("JSON");
    change(&mut header);
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), tensors].concat()
}
