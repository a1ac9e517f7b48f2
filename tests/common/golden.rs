//! What the references computed: safetensors and JSON under `tests/golden` and `tests/formats`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde::de::DeserializeOwned;

/// The file or folder of this name in `tests`.
pub fn path(name: impl AsRef<Path>) -> PathBuf {
    Path::new("tests").join(name)
}

/// The model of a golden. The demo model lies where the program has it from; it has goldens of two texts.
pub fn model(name: &str) -> PathBuf {
    match name {
        "shakespeare" | "shakespeare_200" => PathBuf::from("models/shakespeare"),
        _ => path("golden").join(name),
    }
}

/// The bytes of a file.
pub fn read(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the JSON file of this name in `tests` holds.
pub fn json<T: DeserializeOwned>(name: impl AsRef<Path>) -> T {
    let path = path(name);
    serde_json::from_slice(&read(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A safetensors file.
pub struct Golden {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Golden {
    /// The file of this name in `tests`.
    pub fn open(name: impl AsRef<Path>) -> Self {
        Self::at(path(name))
    }

    /// Any other.
    pub fn at(path: PathBuf) -> Self {
        Self { bytes: read(&path), path }
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }

    fn numbers<T: bytemuck::Pod>(&self, name: &str) -> Vec<T> {
        let tensors = self.tensors();
        let tensor = tensors.tensor(name).unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
        assert_eq!(tensor.dtype().bitsize(), 8 * size_of::<T>(), "{name} of {}", self.path.display());
        bytemuck::pod_collect_to_vec(tensor.data())
    }

    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.numbers(name)
    }

    pub fn i32(&self, name: &str) -> Vec<i32> {
        self.numbers(name)
    }

    pub fn u32(&self, name: &str) -> Vec<u32> {
        self.numbers(name)
    }

    /// Every tensor's shape.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.tensors().iter().map(|(name, tensor)| (name.to_owned(), tensor.shape().to_vec())).collect()
    }

    /// What the header's metadata says under this key.
    pub fn metadata(&self, key: &str) -> Option<String> {
        let (_, header) = SafeTensors::read_metadata(&self.bytes).expect("a sound header");
        header.metadata().as_ref()?.get(key).cloned()
    }
}
