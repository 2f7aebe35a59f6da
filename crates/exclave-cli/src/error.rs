//! What went wrong, for people: what, why, and what to do next.
//!
//! ```text
//! Error: cannot restore land-register
//! Caused by: stripe 51c2: 5 shards readable, 6 needed
//! Hint: luxembourg-1 answered 3 h ago; try again when it is back
//! ```
//!
//! Libraries give precise errors; here they get the deed that failed, a hint, and the exit code, once.

use std::{
    error::Error as StdError,
    fmt,
    io::{self, Write},
};

use crate::{exit::Exit, format::plain};

/// Lines of a command's standard error that are shown.
const LAST_WORDS_LINES: usize = 10;

/// A command that did not succeed.
#[derive(Debug)]
pub struct Trouble(Box<Details>);

#[derive(Debug)]
struct Details {
    exit: Exit,
    what: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    /// The end of what a command said on standard error, line by line.
    last_words: Vec<String>,
    hint: Option<String>,
    quiet: bool,
}

impl Trouble {
    /// A command that ends with this code.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self(Box::new(Details {
            exit,
            what: what.into(),
            source: None,
            last_words: Vec::new(),
            hint: None,
            quiet: false,
        }))
    }

    /// It failed.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Exit::Failed, what)
    }

    /// The command line or the configuration is wrong.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// Whoever read our output went away: nothing to say, and nobody to say it to.
    pub fn reader_gone() -> Self {
        let mut trouble = Self::failed("the output was closed");
        trouble.0.quiet = true;
        trouble
    }

    /// Gives the cause.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Keeps the end of what a command said on standard error: it mostly says why.
    #[must_use]
    pub fn last_words(mut self, stderr: &[u8]) -> Self {
        let said = String::from_utf8_lossy(stderr);
        let lines = said.lines().filter(|line| !line.trim().is_empty());
        self.0.last_words = lines.map(str::to_owned).collect();
        let too_many = self.0.last_words.len().saturating_sub(LAST_WORDS_LINES);
        self.0.last_words.drain(..too_many);
        self
    }

    /// Says what to do next, unless something more precise is said already.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint.get_or_insert(hint.into());
        self
    }

    /// How the process ends.
    pub fn exit(&self) -> Exit {
        self.0.exit
    }

    /// What to do next.
    #[cfg(test)]
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// What failed and why, for a place that has one line.
    pub fn in_one_line(&self) -> String {
        std::iter::once(self.0.what.clone())
            .chain(self.causes())
            .collect::<Vec<_>>()
            .join(": ")
    }

    /// The texts of all causes, but those that the one before contains: some libraries repeat their source in their own.
    fn causes(&self) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        let mut cause = self
            .0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static));
        while let Some(error) = cause {
            let text = error.to_string();
            if !texts.last().unwrap_or(&self.0.what).contains(&text) {
                texts.push(text);
            }
            cause = error.source();
        }
        texts
    }

    /// Prints error, causes and hint. Control characters, which may come from a site, are escaped.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.0.quiet {
            return Ok(());
        }
        writeln!(out, "Error: {}", plain(&self.0.what))?;
        for cause in self.causes() {
            writeln!(out, "Caused by: {}", plain(&cause))?;
        }
        if !self.0.last_words.is_empty() {
            writeln!(out, "It said on standard error:")?;
        }
        for line in &self.0.last_words {
            writeln!(out, "  {}", plain(line))?;
        }
        match &self.0.hint {
            Some(hint) => writeln!(out, "Hint: {}", plain(hint)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)
    }
}

impl StdError for Trouble {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// An error with its causes on one line.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Turns a library's error into trouble.
pub trait Context<T> {
    /// Says what was being done; the error becomes the cause.
    fn because(self, trouble: impl FnOnce() -> Trouble) -> Result<T, Trouble>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Context<T> for Result<T, E> {
    fn because(self, trouble: impl FnOnce() -> Trouble) -> Result<T, Trouble> {
        self.map_err(|error| trouble().source(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading \u{1b}[31m{0}")]
    struct Outer(String, #[source] io::Error);

    #[test]
    fn chains_are_printed_without_repetition_or_escapes() {
        let inner = io::Error::other("no route");
        let trouble = Trouble::failed("cannot check lux-1")
            .source(Outer("head: no route".into(), inner))
            .hint("try again")
            .hint("less precise");
        let mut out = Vec::new();
        trouble.print(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "Error: cannot check lux-1\nCaused by: reading \\u{1b}[31mhead: no route\nHint: try again\n"
        );
    }
}
