//! Which credentials a new kit gets for each site, and which it must not get.

use std::collections::BTreeMap;

use exclave_model::{KitSite, Login};
use exclave_site::{Credentials, SiteAddress, SiteSettings};

use crate::{config::SiteConfig, credentials, environment::Environment, error::Trouble, exit::Exit, kit::logins_text};

/// What a kit says about its sites, and what is sealed.
pub struct Logins {
    /// For the manifest, ascending names.
    pub sites: Vec<KitSite>,
    /// For the sealed file.
    pub text: zeroize::Zeroizing<String>,
}

/// What the owner said about single sites.
pub struct Wishes<'a> {
    /// Credentials that only read, by address.
    pub read: BTreeMap<SiteAddress, SiteSettings>,
    /// What they were read from.
    pub shown: String,
    /// Sites whose only credentials can write, and for which that is accepted.
    pub accept_writing: &'a [String],
    /// Sites for which the kit shall have none.
    pub without: &'a [String],
}

/// Chooses credentials for sites, which bear their names in the charter. All that is wrong is said at once.
pub fn choose(sites: &[SiteConfig], wishes: &Wishes<'_>, environment: &Environment) -> Result<Logins, Trouble> {
    for name in wishes.accept_writing.iter().chain(wishes.without) {
        if !sites.iter().any(|site| site.name == *name) {
            return Err(Trouble::usage(format!("there is no site {name}")));
        }
    }
    let (mut lines, mut sealed, mut findings) = (Vec::new(), BTreeMap::new(), Vec::new());
    for site in sites {
        match one(site, wishes, environment)? {
            Ok((login, credentials)) => {
                lines.push(KitSite {
                    name: site.name.clone(),
                    login,
                });
                let entry = (site.settings.endpoint.clone(), credentials);
                if entry.1 != Credentials::Anonymous && sealed.insert(site.address.clone(), entry).is_some() {
                    findings.push(format!(
                        "two sites have the address {}, and a kit tells credentials apart by address",
                        site.address
                    ));
                }
            }
            Err(finding) => findings.push(finding),
        }
    }
    if !findings.is_empty() {
        return Err(Trouble::new(Exit::Refused, format!("no kit was made: {}", findings.join("; "))).hint(
            "make credentials at those sites that can read and not write, and name the file with them: read_credentials in \
             the configuration, or --read-credentials FILE. Or, for one site: --without-credentials SITE, or \
             --accept-writing SITE, and whoever opens the kit can write there",
        ));
    }
    lines.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Logins {
        sites: lines,
        text: logins_text(&sealed)?,
    })
}

type Chosen = Result<(Login, Credentials), String>;

fn one(site: &SiteConfig, wishes: &Wishes<'_>, environment: &Environment) -> Result<Chosen, Trouble> {
    let name = &site.name;
    if !site.needs_credentials() {
        return Ok(Ok((Login::Open, Credentials::Anonymous)));
    }
    if wishes.without.contains(name) {
        return Ok(Ok((Login::Missing, Credentials::Anonymous)));
    }
    let endpoint = site.settings.endpoint.as_deref();
    let writing = site.credentials.read(&site.address, endpoint, environment)?;
    let read = credentials::of_site(&wishes.read, &site.address, endpoint, &wishes.shown)?;
    let accepted = wishes.accept_writing.contains(name);
    Ok(match (read, writing) {
        (Credentials::Anonymous, Credentials::Anonymous) => Ok((Login::Open, Credentials::Anonymous)),
        (Credentials::Anonymous, writing) if accepted => Ok((Login::Writes, writing)),
        (Credentials::Anonymous, _) => Err(format!(
            "for {name} only the credentials are known that the agent writes with"
        )),
        // A storage account's key can do everything, whichever of the two it is.
        (read @ Credentials::Azure { .. }, _) if accepted => Ok((Login::Writes, read)),
        (Credentials::Azure { .. }, _) => Err(format!("for {name} there is an account's key, which can write")),
        (read, writing) if read.is_same_account(&writing) => match accepted {
            true => Ok((Login::Writes, read)),
            false => Err(format!(
                "for {name} the credentials to read with are those that the agent writes with"
            )),
        },
        (read, _) => Ok((Login::Read, read)),
    })
}

#[cfg(test)]
mod tests {
    use exclave_site::Secret;

    use super::*;
    use crate::{config::Config, credentials::CredentialSource};

    fn s3(user: &str) -> Credentials {
        Credentials::S3 {
            access_key: user.to_owned(),
            secret_key: Secret::new("hunter2"),
            session_token: None,
        }
    }

    fn chosen(read: Option<Credentials>, accept: &[String], without: &[String]) -> Result<Logins, Trouble> {
        let text =
            "[[site]]\nname = \"bucket\"\naddress = \"s3://b/x\"\n[[site]]\nname = \"disk\"\naddress = \"/srv/disk\"\n";
        let mut sites = Config::parse(text, None)?.sites;
        sites[0].credentials = CredentialSource::Given(s3("agent"));
        let entry = |credentials| {
            let settings = SiteSettings {
                credentials,
                ..SiteSettings::default()
            };
            (sites[0].address.clone(), settings)
        };
        let wishes = Wishes {
            read: read.map(entry).into_iter().collect(),
            shown: "f".to_owned(),
            accept_writing: accept,
            without,
        };
        choose(&sites, &wishes, &Environment::of_process())
    }

    #[test]
    fn a_kit_gets_no_credentials_that_write_unless_it_is_said() {
        let bucket = ["bucket".to_owned()];
        let logins =
            |made: Result<Logins, Trouble>| made.unwrap().sites.iter().map(|site| site.login).collect::<Vec<_>>();
        assert_eq!(logins(chosen(Some(s3("reader")), &[], &[])), [Login::Read, Login::Open]);
        for (read, why) in [
            (None, "only the credentials are known"),
            (Some(s3("agent")), "are those that the agent writes with"),
            (
                Some(Credentials::Azure {
                    account: "a".to_owned(),
                    key: Secret::new("hunter2"),
                }),
                "an account's key",
            ),
        ] {
            let error = chosen(read.clone(), &[], &[]).err().unwrap();
            assert!(
                error.to_string().contains(why) && error.exit() == Exit::Refused,
                "{error}"
            );
            assert!(!format!("{error:?}").contains("hunter2"));
            assert_eq!(logins(chosen(read.clone(), &bucket, &[])), [Login::Writes, Login::Open]);
            assert_eq!(logins(chosen(read, &[], &bucket)), [Login::Missing, Login::Open]);
        }
        let text = chosen(Some(s3("reader")), &[], &[]).unwrap().text;
        assert!(text.contains("reader") && !text.contains("agent"));
        assert!(chosen(None, &["nowhere".to_owned()], &[]).is_err());
    }
}
