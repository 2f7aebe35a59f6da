//! The process's environment, read here and nowhere else.

use std::{ffi::OsString, path::PathBuf};

/// Variables by name. A type, so that what reads them says so.
#[derive(Debug, Default)]
pub struct Environment(());

impl Environment {
    /// The process's own.
    pub fn of_process() -> Self {
        Self(())
    }

    /// A variable as bytes; unset and empty are the same.
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge: the command line is where the environment enters"
    )]
    pub fn raw(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name).filter(|value| !value.is_empty())
    }

    /// A variable as text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.raw(name).and_then(|value| value.into_string().ok())
    }

    /// A variable as a path.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.raw(name).map(PathBuf::from)
    }

    /// Where settings lie: `$XDG_CONFIG_HOME`, else `~/.config`.
    pub fn config_home(&self) -> Option<PathBuf> {
        self.xdg("XDG_CONFIG_HOME", ".config")
    }

    /// Where memory lies: `$XDG_STATE_HOME`, else `~/.local/state`.
    pub fn state_home(&self) -> Option<PathBuf> {
        self.xdg("XDG_STATE_HOME", ".local/state")
    }

    fn xdg(&self, name: &str, below_home: &str) -> Option<PathBuf> {
        // The specification says that relative paths are to be ignored.
        let set = self.path(name).filter(|path| path.is_absolute());
        set.or_else(|| self.path("HOME").map(|home| home.join(below_home)))
    }
}
