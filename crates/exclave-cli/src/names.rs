//! Names that follow from other names.

use exclave_site::{Scheme, SiteAddress};

/// Longest name of a site.
const NAME_BYTES_MAX: usize = 40;

/// A short name for a site that has none: a directory's last part, a bucket and its prefix, a host and its path. A name
/// that is taken gets a number.
pub fn of_address<'a>(address: &SiteAddress, taken: impl Iterator<Item = &'a str>) -> String {
    let text = match address.scheme() {
        Scheme::File { root } => root
            .file_name()
            .map_or_else(|| "root".to_owned(), |name| name.to_string_lossy().into_owned()),
        Scheme::S3 { bucket, prefix } | Scheme::Gcs { bucket, prefix } => format!("{bucket} {prefix}"),
        Scheme::Azure { container, prefix } => format!("{container} {prefix}"),
        Scheme::WebDav { origin, prefix } => {
            let host = origin.split_once("://").map_or(origin.as_str(), |(_, host)| host);
            format!("{host} {prefix}")
        }
        Scheme::Sftp { host, root, .. } => format!("{host} {root}"),
        Scheme::Memory { name } => name.clone(),
    };
    let name = clean(&text);
    let taken: Vec<&str> = taken.collect();
    if !taken.contains(&name.as_str()) {
        return name;
    }
    let mut number = 2;
    loop {
        let stem: String = name.chars().take(NAME_BYTES_MAX - 4).collect();
        let numbered = format!("{stem}-{number}");
        if !taken.contains(&numbered.as_str()) {
            return numbered;
        }
        number += 1;
    }
}

/// The beginning of the variables that hold a site's credentials.
pub fn variable_prefix(site: &str) -> String {
    format!("EXCLAVE_SITE_{}", site.to_ascii_uppercase().replace('-', "_"))
}

fn clean(text: &str) -> String {
    let lower = text.to_lowercase();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let parts: Vec<&str> = lower.split(|c| !allowed(c)).filter(|part| !part.is_empty()).collect();
    let name: String = parts.join("-").chars().take(NAME_BYTES_MAX).collect();
    let name = name.trim_end_matches('-').to_owned();
    if name.is_empty() { "site".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use exclave_model::charter::site_name;

    use super::*;

    #[test]
    fn addresses_give_names_that_charters_take() {
        let mut taken: Vec<String> = Vec::new();
        for (address, expected) in [
            ("file:///mnt/a", "a"),
            ("/srv/a", "a-2"),
            ("/other/a", "a-3"),
            ("/", "root"),
            ("s3://bucket/prefix", "bucket-prefix"),
            ("https://dav.example:8443/x/y", "dav-example-8443-x-y"),
            ("/mnt/Ünïcode", "n-code"),
            ("/mnt/___", "site"),
            (
                "gs://a-very-long-bucket-name-that-goes-on/and-a-prefix",
                "a-very-long-bucket-name-that-goes-on-and",
            ),
        ] {
            let address = SiteAddress::parse(address).unwrap();
            let name = of_address(&address, taken.iter().map(String::as_str));
            assert_eq!(name, expected);
            assert!(site_name(&name), "{name}");
            taken.push(name);
        }
        assert_eq!(variable_prefix("bucket-prefix"), "EXCLAVE_SITE_BUCKET_PREFIX");
    }
}
