//! What the pages must keep to as texts.

use std::path::Path;

use crate::pages::{Page, for_users, pages};

#[test]
fn the_readme_is_short() {
    for page in for_users().iter().filter(|page| page.path.ends_with("README.md")) {
        let lines = page.text.lines().count();
        assert!(lines <= 150, "{}: {lines} lines; the rest belongs to docs/", page.path.display());
    }
}

/// A block without a language would be a program to rustdoc, and tests would pass over one of an unknown language.
#[test]
fn every_block_has_a_known_language() {
    for page in for_users() {
        for block in &page.blocks {
            let known = ["console", "jsonl", "rust", "sh", "toml"].contains(&block.language.as_str());
            assert!(known, "{}: a block of {:?}:\n{}", page.path.display(), block.language, block.text);
            let is_session = block.language == "console";
            assert!(!is_session || block.text.starts_with("$ gptj "), "{}:\n{}", page.path.display(), block.text);
        }
    }
}

#[test]
fn every_link_has_a_target() {
    for page in pages() {
        let folder = page.path.parent().expect("a page is in a folder");
        for link in page.links.iter().filter(|link| !link.starts_with("https://")) {
            let (file, anchor) =
                link.split_once('#').map_or((link.as_str(), None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { page.path.clone() } else { folder.join(file) };
            assert!(target.exists(), "{}: {link}", page.path.display());
            if let Some(anchor) = anchor {
                let headings = Page::open(target).headings;
                let has = headings.iter().any(|heading| slug(heading) == anchor);
                assert!(has, "{}: {link}, among {headings:?}", page.path.display());
            }
        }
    }
}

/// A heading's anchor, as GitHub makes it.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter));
    kept.flat_map(char::to_lowercase).map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

/// Files and folders that pages name in passing.
#[test]
fn every_path_exists() {
    const FOLDERS: [&str; 9] =
        ["benches/", "crates/", "docs/", "examples/", "models/", "shaders/", "src/", "tests/", "xtask/"];
    for page in pages() {
        let is_guide = page.path.parent().is_some_and(|folder| folder.ends_with(".") || folder.ends_with("docs"));
        for span in page.spans.iter().filter(|_| is_guide && !page.path.ends_with("CHANGELOG.md")) {
            let path = span.split(' ').next().expect("a split has a first part");
            if FOLDERS.iter().any(|folder| path.starts_with(folder)) && !is_example(path) {
                assert!(Path::new(path).exists(), "{}: {span}", page.path.display());
            }
        }
    }
}

/// Of the kernel that CONTRIBUTING.md adds, and what a machine with a GPU writes.
fn is_example(path: &str) -> bool {
    path.contains("scale") || path.contains("DEVICE") || path.contains("NAME")
}
