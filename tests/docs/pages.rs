//! The pages, read as Markdown.

use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::common::gpu::skip;

const FOLDERS: [&str; 7] =
    [".", "docs", "benches", "crates/checkpoint", "models/shakespeare", "tests/formats", "tests/golden"];

/// A Markdown file.
pub struct Page {
    pub path: PathBuf,
    pub text: String,
    pub blocks: Vec<Block>,
    /// The code in its sentences and tables.
    pub spans: Vec<String>,
    /// Where its links and pictures lead.
    pub links: Vec<String>,
    pub headings: Vec<String>,
}

/// A block of code.
pub struct Block {
    pub language: String,
    pub text: String,
}

impl Page {
    pub fn open(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut page =
            Self { path, text: String::new(), blocks: vec![], spans: vec![], links: vec![], headings: vec![] };
        let mut block: Option<Block> = None;
        let mut heading: Option<String> = None;
        for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::CodeBlock(kind)) => {
                    let language = match kind {
                        CodeBlockKind::Fenced(language) => language.into_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    block = Some(Block { language, text: String::new() });
                }
                Event::End(TagEnd::CodeBlock) => page.blocks.extend(block.take()),
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => page.headings.extend(heading.take()),
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string());
                }
                Event::Text(text) => {
                    let open = block.as_mut().map(|block| &mut block.text).or(heading.as_mut());
                    if let Some(open) = open {
                        *open += &text;
                    }
                }
                Event::Code(code) => match &mut heading {
                    Some(heading) => *heading += &code,
                    None => page.spans.push(code.into_string()),
                },
                _ => {}
            }
        }
        page.text = text;
        page
    }

    /// What it shows to be typed into a shell, a line each.
    pub fn command_lines(&self) -> impl Iterator<Item = &str> {
        let typed = |block: &Block| block.language == "sh";
        self.blocks.iter().filter(move |block| typed(block)).flat_map(|block| block.text.lines())
    }
}

/// All pages; none, with a message, if the tests run without them.
pub fn pages() -> Vec<Page> {
    if !Path::new("README.md").exists() {
        skip("GPTJ_REQUIRE_DOCS", &"the documentation is not in this folder");
        return Vec::new();
    }
    let mut pages = Vec::new();
    for folder in FOLDERS {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
        let files = entries.map(|entry| entry.expect("an entry").path());
        pages.extend(files.filter(|file| file.extension().is_some_and(|ending| ending == "md")));
    }
    pages.sort();
    pages.into_iter().map(Page::open).collect()
}

/// Those that are for users, of which every command runs.
pub fn for_users() -> Vec<Page> {
    let is_for_users = |page: &Page| page.path.ends_with("./README.md") || page.path.starts_with("docs");
    pages().into_iter().filter(is_for_users).collect()
}
