//! The device's abilities that the text of a shader depends on.

/// The device's abilities that the text of a shader depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Specialisation {
    /// Native f16.
    pub f16: bool,
    /// Subgroups.
    pub subgroups: Subgroups,
}

/// The knowledge about an adapter's subgroups, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subgroups {
    /// It has none.
    None,
    /// They may have any size.
    OfAnySize,
    /// They have exactly eight lanes.
    Of8,
}

impl Specialisation {
    /// Every combination.
    pub fn all() -> impl Iterator<Item = Self> {
        let subgroups = [Subgroups::Of8, Subgroups::OfAnySize, Subgroups::None];
        [true, false].into_iter().flat_map(move |f16| subgroups.map(|subgroups| Self { f16, subgroups }))
    }
}
