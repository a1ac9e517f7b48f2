//! What a path in the code leads to: the module that defines the item, re-exports followed.

use std::path::PathBuf;

use super::sources::{Crate, Module, ModulePath};

/// A module of one of the crates.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    /// Its crate's index.
    pub(super) krate: usize,
    pub(super) module: ModulePath,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Target {
    /// A module, or an item that it defines.
    Place(Place),
    /// A crate of others.
    External(String),
}

/// That one module uses something of another.
pub(super) struct Arrow {
    pub(super) from: Place,
    pub(super) to: Target,
    /// The modules that the path goes through.
    pub(super) through: Vec<Place>,
    /// As it is written.
    pub(super) path: String,
    pub(super) file: PathBuf,
    pub(super) line: usize,
}

/// Every path that leads out of its module.
pub(super) fn arrows(crates: &[Crate]) -> Vec<Arrow> {
    let mut arrows = Vec::new();
    for (krate, sources) in crates.iter().enumerate() {
        for (path, module) in &sources.modules {
            let from = Place { krate, module: path.clone() };
            for mention in &module.paths {
                let mut resolver = Resolver { crates, through: Vec::new(), pending: Vec::new() };
                let to = match resolver.resolve(&from, &mention.path) {
                    Some(Meaning::Module(place) | Meaning::Item(place)) => Target::Place(place),
                    Some(Meaning::External(name)) => Target::External(name),
                    None => continue,
                };
                if to != Target::Place(from.clone()) {
                    arrows.push(Arrow {
                        from: from.clone(),
                        to,
                        through: resolver.through,
                        path: mention.path.join("::"),
                        file: module.file.clone(),
                        line: mention.line,
                    });
                }
            }
        }
    }
    arrows
}

/// What a path or a name means.
enum Meaning {
    Module(Place),
    /// Something that this module defines.
    Item(Place),
    External(String),
}

struct Resolver<'a> {
    crates: &'a [Crate],
    through: Vec<Place>,
    /// The names whose meaning is being sought: `pub use wgpu` must not go round for ever.
    pending: Vec<(Place, String)>,
}

impl<'a> Resolver<'a> {
    fn module(&self, place: &Place) -> &'a Module {
        &self.crates[place.krate].modules[&place.module]
    }

    /// `None` if the path begins with `Self`, which is about the module itself.
    fn resolve(&mut self, from: &Place, path: &[String]) -> Option<Meaning> {
        let (first, mut rest) = path.split_first()?;
        let root = |krate| Meaning::Module(Place { krate, module: Vec::new() });
        let mut meaning = match first.as_str() {
            "Self" => return None,
            "crate" => root(from.krate),
            "self" => Meaning::Module(from.clone()),
            "super" => Meaning::Module(parent(from)),
            name => self.look_up(from, name).unwrap_or_else(|| {
                // Variables and type parameters pass for other crates here, which harms nothing.
                let krate = self.crates.iter().position(|sources| sources.name == name);
                krate.map_or_else(|| Meaning::External(name.to_owned()), root)
            }),
        };
        while let (Meaning::Module(place), Some((name, after))) = (&meaning, rest.split_first()) {
            self.through.push(place.clone());
            meaning = match name.as_str() {
                "super" => Meaning::Module(parent(place)),
                // A name that a macro defines is the module's own.
                name => self.look_up(&place.clone(), name).unwrap_or_else(|| Meaning::Item(place.clone())),
            };
            rest = after;
        }
        if let Meaning::Module(place) | Meaning::Item(place) = &meaning {
            self.through.push(place.clone());
        }
        Some(meaning)
    }

    /// What a name means in a module: a child, an item, or an import.
    fn look_up(&mut self, place: &Place, name: &str) -> Option<Meaning> {
        let mut child = place.clone();
        child.module.push(name.to_owned());
        if self.crates[place.krate].modules.contains_key(&child.module) {
            return Some(Meaning::Module(child));
        }
        let module = self.module(place);
        if module.items.contains(name) {
            return Some(Meaning::Item(place.clone()));
        }
        let key = (place.clone(), name.to_owned());
        if self.pending.contains(&key) {
            return None;
        }
        self.pending.push(key);
        let found = match module.imports.get(name) {
            Some(path) => self.resolve(place, path),
            // The glob of an enum brings variants, which are the enum's.
            None => module.globs.iter().find_map(|glob| match self.resolve(place, glob)? {
                Meaning::Module(source) => self.look_up(&source, name),
                _ => None,
            }),
        };
        self.pending.pop();
        found
    }
}

/// The module around this one; a root, which has none, is its own.
fn parent(place: &Place) -> Place {
    let mut parent = place.clone();
    parent.module.pop();
    parent
}
