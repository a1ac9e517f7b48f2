//! PyTorch's storage classes, one per type of number.

use crate::elements::Dtype;

/// The type of a storage's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// The name of PyTorch's class, without "Storage".
    pub(super) name: &'static str,
    /// Bytes per number.
    pub(super) bytes: usize,
    /// The type to read them as; `None` if it cannot be loaded.
    pub(super) dtype: Option<Dtype>,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self { name: "Float", bytes: 4, dtype: Some(Dtype::F32) },
        Self { name: "Half", bytes: 2, dtype: Some(Dtype::F16) },
        Self { name: "BFloat16", bytes: 2, dtype: Some(Dtype::BF16) },
        Self { name: "Double", bytes: 8, dtype: None },
        Self { name: "Long", bytes: 8, dtype: None },
        Self { name: "Int", bytes: 4, dtype: None },
        Self { name: "Short", bytes: 2, dtype: None },
        Self { name: "Char", bytes: 1, dtype: None },
        Self { name: "Byte", bytes: 1, dtype: None },
        Self { name: "Bool", bytes: 1, dtype: None },
    ];

    /// The kind whose class has this name.
    pub(super) fn of_class(class: &str) -> Option<Self> {
        let name = class.strip_suffix("Storage")?;
        Self::ALL.into_iter().find(|kind| kind.name == name)
    }
}
