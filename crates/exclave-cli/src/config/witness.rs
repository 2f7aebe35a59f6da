//! `[[witness]]`: where a charter's witnesses are asked.

use std::{path::Path, time::Duration};

use exclave_engine::witness::Asking;
use exclave_model::Charter;
use exclave_site::{Asked, SiteSettings, Span};

use super::raw::{self, RawWitness};
use crate::error::{Context as _, Trouble};

/// How long one request to a witness may take.
const REQUEST_MAX: Duration = Duration::from_secs(8);

/// One witness.
#[derive(Debug, Clone)]
pub struct WitnessConfig {
    /// Its name in the charter.
    pub name: String,
    door: Asked,
}

impl WitnessConfig {
    pub(super) fn read(table: toml::Table, base: &Path, place: &str) -> Result<Self, Trouble> {
        let raw: RawWitness = raw::over(&toml::Table::new(), table, place)?;
        let wrong = |why: &str| Trouble::usage(format!("{place}: {why}"));
        let name = raw
            .name
            .filter(|name| !name.is_empty())
            .ok_or_else(|| wrong("it has no name"))?;
        let url = raw.url.ok_or_else(|| wrong("it has no url"))?;
        let ca_pem = raw.ca_file.map(|path| {
            let path = base.join(path);
            std::fs::read_to_string(&path).because(|| wrong(&format!("its ca_file {} can't be read", path.display())))
        });
        let settings = SiteSettings {
            pin: raw.pin,
            ca_pem: ca_pem.transpose()?,
            proxy: raw.proxy,
            allow_http: raw.allow_http,
            connect_max: Span(REQUEST_MAX),
            operation_max: Span(REQUEST_MAX),
            ..SiteSettings::default()
        };
        let door = Asked::new(&url, &settings).because(|| wrong("its url can't be asked"))?;
        Ok(Self { name, door })
    }
}

/// The witnesses of the charter that can be asked, and the names of settings that no charter has.
pub fn asking(some: &[WitnessConfig], charter: &Charter) -> (Vec<Asking>, Vec<String>) {
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for config in some {
        match charter.witnesses().iter().find(|witness| witness.name == config.name) {
            Some(witness) => found.push(Asking {
                witness: witness.clone(),
                door: config.door.clone(),
            }),
            None => unknown.push(config.name.clone()),
        }
    }
    (found, unknown)
}
