//! The README and the documentation: every command runs, every option exists, every link has a target. Their programs
//! are doctests of the library.

#[cfg(unix)]
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod options;
mod pages;
mod text;
#[cfg(unix)]
mod workplace;
