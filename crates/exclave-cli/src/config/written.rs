//! What `init` writes into a new configuration: a site's table, with every setting that isn't the default.

use exclave_site::{SiteSettings, Span};

use crate::{
    config::{Domains, SiteConfig},
    error::Trouble,
};

/// A `[[site]]` with what must be known to reach it again, but for its credentials.
pub fn site(site: &SiteConfig) -> Result<String, Trouble> {
    let address = site.address.to_string();
    let mut lines = vec![
        "\n[[site]]".to_owned(),
        line("name", site.name.as_str()),
        line("address", address),
    ];
    lines.extend(settings(site)?);
    Ok(lines.join("\n") + "\n")
}

/// A `[[site]]` with whose hands it is in and what fails together with it too: nothing of it is left to defaults that may
/// change.
pub fn placed_site(site: &SiteConfig) -> Result<String, Trouble> {
    let Domains {
        country,
        region,
        operator,
        legal_reach,
        iam_realm,
    } = &site.domains;
    let text = |key, value: &Option<String>| value.as_ref().map(|value| line(key, value.as_str()));
    let lines = [
        Some(line("hosting", site.hosting.as_str())),
        Some(line("pace", site.pace.as_str())),
        text("country", country),
        text("region", region),
        text("operator", operator),
        (!legal_reach.is_empty()).then(|| line("legal_reach", legal_reach.clone())),
        text("iam_realm", iam_realm),
    ];
    let lines: Vec<String> = lines.into_iter().flatten().collect();
    Ok(self::site(site)? + &lines.join("\n") + "\n")
}

fn settings(site: &SiteConfig) -> Result<Vec<String>, Trouble> {
    // All of them by name: one that is added later is remembered here by the compiler.
    let SiteSettings {
        endpoint,
        region,
        credentials: _,
        ca_pem,
        pin,
        host_key,
        known_hosts,
        proxy,
        allow_http,
        connect_max,
        silence_max,
        operation_max,
        listing_max,
        requests_in_flight_max,
        upload_per_second_max,
        download_per_second_max,
        durability,
    } = &site.settings;
    let default = SiteSettings::default();
    // Whatever stands before an @, in whichever way one reads it.
    if proxy.as_deref().is_some_and(|proxy| proxy.contains('@')) {
        return Err(Trouble::usage(format!(
            "the proxy of {} has a password, and settings hold none",
            site.name
        ))
        .hint("use one that asks for none, such as a proxy on this machine that knows the password"));
    }
    let pins: Vec<String> = pin.iter().map(ToString::to_string).collect();
    let host_keys: Vec<String> = host_key.iter().map(ToString::to_string).collect();
    let text = |key, value: &Option<String>| value.as_ref().map(|value| line(key, value.as_str()));
    let span = |key, value: Span, default| (value != default).then(|| line(key, value.to_string()));
    Ok([
        text("endpoint", endpoint),
        text("signing_region", region),
        text("ca_pem", ca_pem),
        (!pins.is_empty()).then(|| line("pin", pins)),
        (!host_keys.is_empty()).then(|| line("host_key", host_keys)),
        text("known_hosts", known_hosts),
        text("proxy", proxy),
        allow_http.then(|| line("allow_http", true)),
        span("connect_max", *connect_max, default.connect_max),
        span("silence_max", *silence_max, default.silence_max),
        span("operation_max", *operation_max, default.operation_max),
        span("listing_max", *listing_max, default.listing_max),
        (*requests_in_flight_max != default.requests_in_flight_max)
            .then(|| line("requests_in_flight_max", i64::from(*requests_in_flight_max))),
        upload_per_second_max.map(|count| line("upload_per_second_max", count.to_string())),
        download_per_second_max.map(|count| line("download_per_second_max", count.to_string())),
        (*durability != default.durability).then(|| line("durability", durability.as_str())),
    ]
    .into_iter()
    .flatten()
    .collect())
}

fn line(key: &str, value: impl Into<toml::Value>) -> String {
    format!("{key} = {}", value.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(text: &str) -> SiteConfig {
        Config::parse(text, None).unwrap().sites.remove(0)
    }

    #[test]
    fn what_is_written_reads_as_it_was() {
        let plain = read("[[site]]\naddress = \"/srv/a\"");
        assert_eq!(
            site(&plain).unwrap(),
            "\n[[site]]\nname = \"a\"\naddress = \"file:///srv/a\"\n"
        );
        let full = read(
            r#"
            [[site]]
            name = "one"
            address = "s3://bucket/x"
            endpoint = "https://s3.example"
            signing_region = "lu-1"
            ca_pem = "-----BEGIN CERTIFICATE-----\nAA\"A\\A\n-----END CERTIFICATE-----\n"
            pin = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
            host_key = ["SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"]
            known_hosts = "host ssh-ed25519 AAAA\nother ssh-ed25519 AAAA\n"
            proxy = "http://127.0.0.1:3128"
            allow_http = true
            connect_max = "250ms"
            silence_max = "90s"
            operation_max = "1h"
            listing_max = "1d"
            requests_in_flight_max = 3
            upload_per_second_max = "8MiB"
            download_per_second_max = "1000"
            durability = "each"
            "#,
        );
        let again = read(&site(&full).unwrap());
        assert_eq!(again.settings, full.settings);
        assert_ne!(again.settings.ca_pem, None);
        assert_eq!((again.name, again.address), (full.name, full.address));
    }

    #[test]
    fn a_proxys_password_is_never_written() {
        for proxy in [
            "http://me:hunter2@127.0.0.1:3128",
            "http://me@127.0.0.1",
            "me:hunter2@proxy",
        ] {
            let text = format!("[[site]]\naddress = \"s3://bucket\"\nproxy = \"{proxy}\"");
            let error = site(&read(&text)).unwrap_err();
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
