//! Where the configuration lies.

use std::path::{Path, PathBuf};

use crate::{environment::Environment, error::Trouble};

/// What the search found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A file.
    File(PathBuf),
    /// Nothing: all is default.
    Nothing,
}

/// Looks in the order --config, `EXCLAVE_CONFIG`, `./exclave.toml`, `$XDG_CONFIG_HOME/exclave/exclave.toml`.
///
/// A file that was named must be there; one that was merely possible need not.
pub fn locate(named: Option<&Path>, environment: &Environment) -> Result<Found, Trouble> {
    let named = named.map(Path::to_owned);
    let named = named.or_else(|| environment.path("EXCLAVE_CONFIG"));
    if let Some(path) = named {
        return Ok(Found::File(path));
    }
    let mut places = vec![PathBuf::from("exclave.toml")];
    places.extend(environment.config_home().map(|home| home.join("exclave/exclave.toml")));
    for place in places {
        match place.try_exists() {
            Ok(true) => return Ok(Found::File(place)),
            Ok(false) => {}
            Err(error) => {
                let what = format!("the configuration {} can't be looked at", place.display());
                return Err(Trouble::usage(what).source(error));
            }
        }
    }
    Ok(Found::Nothing)
}
