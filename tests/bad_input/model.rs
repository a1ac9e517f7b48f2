//! Sound models to damage, one thing at a time.

use std::collections::BTreeMap;

use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;
use tempfile::TempDir;

pub fn read(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The smallest of the goldens: two blocks, a vocabulary of 200, a context of 24; no tokenizer.
pub fn sound(file: &str) -> Vec<u8> {
    read(Path::new("tests/golden/narrow_mlp").join(file))
}

/// A model directory of its own for each test.
pub struct Model(pub TempDir);

impl Model {
    pub fn empty() -> Self {
        Self(TempDir::new().expect("a temporary directory"))
    }

    pub fn sound() -> Self {
        Self::empty().with("config.json", sound("config.json")).with("model.safetensors", sound("model.safetensors"))
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

    /// Writes the sound configuration with some keys replaced.
    pub fn with_config(self, changes: &Value) -> Self {
        let mut config = serde_json::from_slice(&sound("config.json")).expect("JSON");
        replace(&mut config, changes);
        self.with("config.json", config.to_string())
    }

    pub fn with_tensors(self, change: impl FnOnce(&mut Tensors)) -> Self {
        let mut tensors = Tensors::sound();
        change(&mut tensors);
        self.with("model.safetensors", tensors.to_file())
    }

    pub fn file(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    pub fn path(&self) -> &str {
        self.0.path().to_str().expect("temporary directories have plain names")
    }
}

/// Replaces keys of a JSON object by those of another.
pub fn replace(object: &mut Value, changes: &Value) {
    for (key, value) in changes.as_object().expect("an object") {
        object[key] = value.clone();
    }
}

/// The tensors of a safetensors file: formats, shapes, and bytes.
pub struct Tensors(pub BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    pub fn sound() -> Self {
        let bytes = sound("model.safetensors");
        let file = SafeTensors::deserialize(&bytes).expect("the generator writes sound files");
        let parts = |view: TensorView<'_>| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        Self(file.tensors().into_iter().map(|(name, view)| (name, parts(view))).collect())
    }

    /// Replaces a tensor by zeros, and returns these.
    pub fn zeros(&mut self, name: &str, dtype: Dtype, shape: &[usize]) -> &mut [u8] {
        let bytes = vec![0; shape.iter().product::<usize>() * dtype.bitsize() / 8];
        self.0.insert(name.to_owned(), (dtype, shape.to_vec(), bytes));
        &mut self.0.get_mut(name).expect("it is there now").2
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
