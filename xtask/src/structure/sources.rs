//! Reads a crate's source files into modules: what each defines, imports and mentions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, LitStr, Macro, UseTree, Visibility};

/// A module's path from the root of its crate, which is the empty one.
pub(super) type ModulePath = Vec<String>;

pub(super) struct Crate {
    /// The name by which others use it.
    pub(super) name: String,
    pub(super) modules: BTreeMap<ModulePath, Module>,
}

#[derive(Default)]
pub(super) struct Module {
    pub(super) file: PathBuf,
    /// The names that it defines, modules apart.
    pub(super) items: BTreeSet<String>,
    /// The names that it imports, with their paths.
    pub(super) imports: BTreeMap<String, Vec<String>>,
    /// The paths of which it imports every name.
    pub(super) globs: Vec<Vec<String>>,
    /// All paths in its code.
    pub(super) paths: Vec<Mention>,
    /// All texts in its code, documentation apart.
    pub(super) texts: Vec<(String, usize)>,
}

/// A path in the code of a module.
pub(super) struct Mention {
    pub(super) path: Vec<String>,
    pub(super) line: usize,
}

impl Crate {
    /// Follows the `mod` items from the root file.
    pub(super) fn read(name: &str, root: &Path) -> Result<Self> {
        let mut sources = Self { name: name.to_owned(), modules: BTreeMap::new() };
        let folder = root.parent().expect("a file lies in a folder");
        sources.read_file(&[], root, folder)?;
        Ok(sources)
    }

    /// Reads a module's file; those of its children lie in `folder`.
    fn read_file(&mut self, module: &[String], file: &Path, folder: &Path) -> Result<()> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let parsed = syn::parse_file(&text).with_context(|| format!("cannot parse {}", file.display()))?;
        self.read_items(module, &parsed.items, file, folder)
    }

    fn read_items(&mut self, path: &[String], items: &[Item], file: &Path, folder: &Path) -> Result<()> {
        let mut reader = Reader { module: Module { file: file.to_owned(), ..Default::default() }, depth: 0 };
        let mut children = Vec::new();
        for item in items {
            match item {
                Item::Mod(child) if is_for_tests(&child.attrs) => {}
                Item::Mod(child) => children.push(child),
                item => reader.visit_item(item),
            }
        }
        self.modules.insert(path.to_vec(), reader.module);
        for ItemMod { attrs, ident, content, .. } in children {
            let name = ident.to_string();
            let inner_folder = folder.join(&name);
            let inner = [path, std::slice::from_ref(&name)].concat();
            if let Some((_, items)) = content {
                self.read_items(&inner, items, file, &inner_folder)?;
                continue;
            }
            if attrs.iter().any(|attribute| attribute.path().is_ident("path")) {
                bail!("{}: `mod {name}` has a #[path], so its file does not lie where its name says", file.display());
            }
            let beside = inner_folder.with_added_extension("rs");
            let inner_file = if beside.exists() { beside } else { inner_folder.join("mod.rs") };
            self.read_file(&inner, &inner_file, &inner_folder)?;
        }
        Ok(())
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || (attribute.path().is_ident("cfg")
                && attribute.parse_args::<Ident>().is_ok_and(|condition| condition == "test" || condition == "doctest"))
    })
}

/// Collects what the items of one module say.
struct Reader {
    module: Module,
    /// Bodies around the present item: what those define and import is known in them alone.
    depth: usize,
}

impl Reader {
    fn mention(&mut self, path: Vec<String>, line: usize) {
        self.module.paths.push(Mention { path, line });
    }

    /// The paths of a `use`, whose groups may nest.
    fn read_use(&mut self, tree: &UseTree, before: &[String], line: usize) {
        let with = |name: &Ident| [before, &[name.to_string()]].concat();
        let (path, name) = match tree {
            UseTree::Path(path) => return self.read_use(&path.tree, &with(&path.ident), line),
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.read_use(tree, before, tree.span().start().line));
            }
            UseTree::Glob(_) => {
                if self.depth == 0 {
                    self.module.globs.push(before.to_vec());
                }
                return self.mention(before.to_vec(), line);
            }
            UseTree::Name(name) if name.ident == "self" => {
                (before.to_vec(), before.last().cloned().unwrap_or_default())
            }
            UseTree::Name(name) => (with(&name.ident), name.ident.to_string()),
            UseTree::Rename(rename) if rename.ident == "self" => (before.to_vec(), rename.rename.to_string()),
            UseTree::Rename(rename) => (with(&rename.ident), rename.rename.to_string()),
        };
        if self.depth == 0 {
            self.module.imports.insert(name, path.clone());
        }
        self.mention(path, line);
    }

    /// What a macro is given is no syntax tree yet: finds `a::b` and texts among the tokens.
    fn read_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(ident) if colons == 2 => {
                    path.push(ident.to_string());
                    colons = 0;
                    continue;
                }
                token => {
                    self.end_path(&mut path, line);
                    colons = 0;
                    match token {
                        TokenTree::Ident(ident) => {
                            line = ident.span().start().line;
                            path.push(ident.to_string());
                        }
                        TokenTree::Group(group) => self.read_tokens(group.stream()),
                        TokenTree::Literal(literal) => {
                            let at = literal.span().start().line;
                            if let Ok(text) = syn::parse2::<LitStr>(TokenTree::from(literal).into()) {
                                self.module.texts.push((text.value(), at));
                            }
                        }
                        TokenTree::Punct(_) => {}
                    }
                }
            }
        }
        self.end_path(&mut path, line);
    }

    fn end_path(&mut self, path: &mut Vec<String>, line: usize) {
        if path.len() > 1 {
            self.mention(std::mem::take(path), line);
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        let (name, attributes) = match item {
            Item::Const(item) => (Some(&item.ident), &item.attrs),
            Item::Enum(item) => (Some(&item.ident), &item.attrs),
            Item::Fn(item) => (Some(&item.sig.ident), &item.attrs),
            Item::Impl(item) => (None, &item.attrs),
            Item::Macro(item) => (item.ident.as_ref(), &item.attrs),
            Item::Static(item) => (Some(&item.ident), &item.attrs),
            Item::Struct(item) => (Some(&item.ident), &item.attrs),
            Item::Trait(item) => (Some(&item.ident), &item.attrs),
            Item::Type(item) => (Some(&item.ident), &item.attrs),
            Item::Union(item) => (Some(&item.ident), &item.attrs),
            Item::Use(item) => (None, &item.attrs),
            _ => return visit::visit_item(self, item),
        };
        if is_for_tests(attributes) {
            return;
        }
        if self.depth == 0
            && let Some(name) = name
        {
            self.module.items.insert(name.to_string());
        }
        // A `use` of the module itself is known in all of it.
        let inner = usize::from(!matches!(item, Item::Use(_)));
        self.depth += inner;
        visit::visit_item(self, item);
        self.depth -= inner;
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.read_use(&item.tree, &[], item.span().start().line);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.mention(names, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        visit::visit_macro(self, call);
        self.read_tokens(call.tokens.clone());
    }

    fn visit_lit_str(&mut self, text: &'ast LitStr) {
        self.module.texts.push((text.value(), text.span().start().line));
    }

    /// Who may see an item is not what the item uses.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    /// Documentation above all.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}
