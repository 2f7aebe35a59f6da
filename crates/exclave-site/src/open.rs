//! From an address and settings to a site.

use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::azure::{AzureCredential, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::http::HttpBuilder;
use object_store::list::PaginatedListStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider};

use crate::contract::{Destroy, Site};
use crate::error::{Failure, Operation};
use crate::http::carrier::Answers;
use crate::http::{BadTransport, Transport};
use crate::layer::limited::{Limited, Limits};
use crate::layer::timed::Timed;
use crate::retention::{Keep, Retention};
#[cfg(feature = "sftp")]
use crate::sftp::SftpSite;
use crate::store::bucket::{Bucket, Signs};
use crate::store::{Lister, RemoteSite};
use crate::{Credentials, FileSite, MemorySite, MemoryStore, Scheme, SiteAddress, SiteError, SiteSettings};

/// Opens a site: its store, a deadline around it, limits around that. Nothing is sent yet. Retries are the caller's to
/// add ([`crate::layer::retrying::Retrying`]), because they need a source of jitter and a budget for the run.
///
/// A `memory://` site starts empty at each call; to share one, keep a [`MemoryStore`].
pub fn open(address: &SiteAddress, settings: &SiteSettings) -> Result<Arc<dyn Site>, SiteError> {
    Ok(match backend(address, &Way::network(settings))? {
        Backend::File(site) => guarded(site, settings),
        Backend::Memory(site) => guarded(site, settings),
        Backend::Remote(site) => guarded(site, settings),
        #[cfg(feature = "sftp")]
        Backend::Sftp(site) => guarded(site, settings),
    })
}

/// Opens the power to delete at a site, with whatever rights the credentials give. For probes and reapers only.
pub fn open_destroy(address: &SiteAddress, settings: &SiteSettings) -> Result<Arc<dyn Destroy>, SiteError> {
    let operation_max = settings.operation_max.0;
    Ok(match backend(address, &Way::network(settings))? {
        Backend::File(site) => Arc::new(Timed::new(site, operation_max, operation_max)),
        Backend::Memory(site) => Arc::new(Timed::new(site, operation_max, operation_max)),
        Backend::Remote(site) => Arc::new(Timed::new(site, operation_max, operation_max)),
        #[cfg(feature = "sftp")]
        Backend::Sftp(site) => Arc::new(Timed::new(site, operation_max, operation_max)),
    })
}

/// Opens the power to ask a site what it keeps of overwritten and deleted objects. For probes only.
pub fn open_retention(address: &SiteAddress, settings: &SiteSettings) -> Result<Arc<dyn Retention>, SiteError> {
    let operation_max = settings.operation_max.0;
    Ok(match backend(address, &Way::network(settings))? {
        Backend::File(site) => Arc::new(Timed::new(site, operation_max, operation_max)),
        Backend::Memory(site) => Arc::new(Timed::new(site, operation_max, operation_max)),
        Backend::Remote(site) => Arc::new(Timed::new(site, operation_max, operation_max)),
        #[cfg(feature = "sftp")]
        Backend::Sftp(site) => Arc::new(Timed::new(site, operation_max, operation_max)),
    })
}

/// Opens the power to extend locks at a site, with whatever rights the credentials give. For keepers only; a kind of store
/// that locks nothing is `Unsupported`.
pub fn open_keep(address: &SiteAddress, settings: &SiteSettings) -> Result<Arc<dyn Keep>, SiteError> {
    let operation_max = settings.operation_max.0;
    match backend(address, &Way::network(settings))? {
        Backend::Memory(site) => Ok(Arc::new(Timed::new(site, operation_max, operation_max))),
        Backend::Remote(site) => Ok(Arc::new(Timed::new(site, operation_max, operation_max))),
        _ => Err(crate::versions::has_none(address, Operation::Open)),
    }
}

/// Opens a site over the network whose server is answers that lie ready: for tests of what a site's code makes of them. No
/// layer is around it, and nothing is ever sent. Other kinds of site are refused.
pub fn open_answered(
    address: &SiteAddress,
    settings: &SiteSettings,
    answers: Arc<dyn Answers>,
) -> Result<impl Site + Destroy + Retention + use<>, SiteError> {
    let answers = Some(answers);
    match backend(address, &Way { settings, answers })? {
        Backend::Remote(site) => Ok(site),
        _ => {
            let what = "answers in place of a server".into();
            Err(SiteError::new(address, Operation::Open, Failure::Unsupported { what }))
        }
    }
}

fn guarded<S: Site + 'static>(site: S, settings: &SiteSettings) -> Arc<dyn Site> {
    let timed = Timed::new(site, settings.operation_max.0, settings.listing_max.0);
    Arc::new(Limited::new(timed, &Limits::from(settings)))
}

/// A site's settings, and the answers that lie ready in place of its server's.
struct Way<'a> {
    settings: &'a SiteSettings,
    answers: Option<Arc<dyn Answers>>,
}

impl<'a> Way<'a> {
    fn network(settings: &'a SiteSettings) -> Self {
        let answers = None;
        Self { settings, answers }
    }

    fn transport(&self, endpoint: &str) -> Result<Transport, BadTransport> {
        match &self.answers {
            None => Transport::new(endpoint, self.settings),
            Some(answers) => Transport::ready(endpoint, self.settings, Arc::clone(answers)),
        }
    }
}

enum Backend {
    File(FileSite),
    Memory(MemorySite),
    Remote(RemoteSite),
    #[cfg(feature = "sftp")]
    Sftp(SftpSite),
}

fn backend(address: &SiteAddress, way: &Way<'_>) -> Result<Backend, SiteError> {
    let fail = |what: String| SiteError::new(address, Operation::Open, Failure::Unsupported { what });
    let remote = match address.scheme() {
        Scheme::File { .. } => {
            let site = FileSite::new(address, way.settings.durability).map_err(|bad| fail(bad.to_string()))?;
            return Ok(Backend::File(site));
        }
        Scheme::Memory { .. } => {
            return Ok(Backend::Memory(MemorySite::over(
                address.clone(),
                MemoryStore::default(),
            )));
        }
        #[cfg(feature = "sftp")]
        Scheme::Sftp { .. } => {
            let site = SftpSite::new(address, way.settings).map_err(|bad| fail(bad.to_string()))?;
            return Ok(Backend::Sftp(site));
        }
        #[cfg(not(feature = "sftp"))]
        Scheme::Sftp { .. } => return Err(fail("SFTP; this program was built without the feature `sftp`".into())),
        Scheme::S3 { bucket, prefix } => s3(bucket, prefix, way),
        Scheme::Azure { container, prefix } => azure(container, prefix, way),
        Scheme::Gcs { bucket, prefix } => gcs(bucket, prefix, way),
        Scheme::WebDav { origin, prefix } => webdav(origin, prefix, way),
    };
    let Remote {
        store,
        lister,
        prefix,
        transport,
        bucket,
    } = remote.map_err(|bad| fail(bad.to_string()))?;
    Ok(Backend::Remote(RemoteSite::new(
        address, store, lister, &prefix, transport, bucket,
    )))
}

/// A store with what a [`RemoteSite`] needs beside it.
struct Remote {
    store: Arc<dyn ObjectStore>,
    lister: Lister,
    prefix: String,
    transport: Transport,
    bucket: Bucket,
}

impl Remote {
    fn paged<S: ObjectStore + PaginatedListStore>(
        store: S,
        prefix: &str,
        transport: Transport,
        bucket: Bucket,
    ) -> Self {
        let store = Arc::new(store);
        let lister = Lister::Paged(Arc::<S>::clone(&store));
        Self {
            store,
            lister,
            prefix: prefix.to_owned(),
            transport,
            bucket,
        }
    }
}

/// Why settings don't make a store.
#[derive(Debug, thiserror::Error)]
enum BadStore {
    #[error("{0}")]
    Transport(#[from] BadTransport),
    #[error("{0}")]
    Store(#[from] object_store::Error),
    #[error("credentials of kind {given} for a site of kind {wanted}")]
    Credentials { given: &'static str, wanted: &'static str },
    #[error("anonymous access to Azure needs an endpoint that names the account")]
    NoAccount,
}

fn s3(bucket: &str, prefix: &str, way: &Way<'_>) -> Result<Remote, BadStore> {
    let settings = way.settings;
    let region = settings.region.as_deref().unwrap_or("us-east-1");
    let vendor = format!("https://s3.{region}.amazonaws.com");
    let endpoint = settings.endpoint.as_deref().unwrap_or(&vendor);
    let transport = way.transport(endpoint)?;
    // An unsigned payload still travels authenticated by TLS, and a shard proves itself; signing would hash it again.
    // Without TLS the signature is all there is.
    let encrypted = transport.endpoint().scheme() == "https";
    let endpoint = endpoint.trim_end_matches('/');
    let builder = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_region(region)
        .with_bucket_name(bucket)
        .with_unsigned_payload(encrypted)
        // The reply to a bulk delete is read without a limit, and one that names another object ends in a panic (0.14.2).
        .with_disable_bulk_delete(true)
        .with_retry(no_retries())
        .with_client_options(options())
        .with_http_connector(transport.clone());
    let builder = match &settings.credentials {
        Credentials::Anonymous => {
            // A static provider as well: with none, the builder sets up one that asks the metadata address.
            let nobody = object_store::aws::AwsCredential {
                key_id: String::new(),
                secret_key: String::new(),
                token: None,
            };
            let provider = Arc::new(StaticCredentialProvider::new(nobody));
            builder.with_skip_signature(true).with_credentials(provider)
        }
        Credentials::S3 {
            access_key,
            secret_key,
            session_token,
        } => {
            let builder = builder
                .with_access_key_id(access_key)
                .with_secret_access_key(secret_key.expose());
            match session_token {
                Some(token) => builder.with_token(token.expose()),
                None => builder,
            }
        }
        other => return Err(mismatch(other, "S3")),
    };
    let store = builder.build()?;
    let signs = Signs::S3 {
        region: region.to_owned(),
        credentials: settings.credentials.unless_anonymous(store.credentials()),
    };
    let bucket = Bucket::new(&transport, format!("{endpoint}/{bucket}"), signs);
    Ok(Remote::paged(store, prefix, transport, bucket))
}

fn azure(container: &str, prefix: &str, way: &Way<'_>) -> Result<Remote, BadStore> {
    let settings = way.settings;
    let vendor = |account: &str| format!("https://{account}.blob.core.windows.net");
    let (account, endpoint) = match (&settings.credentials, &settings.endpoint) {
        (Credentials::Azure { account, .. }, Some(endpoint)) => (account.clone(), endpoint.clone()),
        (Credentials::Azure { account, .. }, None) => (account.clone(), vendor(account)),
        (Credentials::Anonymous, Some(endpoint)) => ("anonymous".to_owned(), endpoint.clone()),
        (Credentials::Anonymous, None) => return Err(BadStore::NoAccount),
        (other, _) => return Err(mismatch(other, "Azure")),
    };
    let transport = way.transport(&endpoint)?;
    let url = format!("{}/{container}", endpoint.trim_end_matches('/'));
    let builder = MicrosoftAzureBuilder::new()
        .with_endpoint(endpoint)
        .with_account(account.as_str())
        .with_container_name(container)
        .with_retry(no_retries())
        .with_client_options(options())
        .with_http_connector(transport.clone());
    let builder = match &settings.credentials {
        Credentials::Azure { key, .. } => builder.with_access_key(key.expose()),
        _ => {
            let nobody = AzureCredential::BearerToken(String::new());
            builder
                .with_skip_signature(true)
                .with_credentials(Arc::new(StaticCredentialProvider::new(nobody)))
        }
    };
    let store = builder.build()?;
    let credentials = settings.credentials.unless_anonymous(store.credentials());
    let bucket = Bucket::new(&transport, url, Signs::Azure { account, credentials });
    Ok(Remote::paged(store, prefix, transport, bucket))
}

fn gcs(bucket: &str, prefix: &str, way: &Way<'_>) -> Result<Remote, BadStore> {
    let settings = way.settings;
    let endpoint = settings
        .endpoint
        .as_deref()
        .unwrap_or("https://storage.googleapis.com")
        .trim_end_matches('/');
    let transport = way.transport(endpoint)?;
    let builder = GoogleCloudStorageBuilder::new()
        .with_base_url(endpoint)
        .with_bucket_name(bucket)
        .with_retry(no_retries())
        .with_client_options(options())
        .with_http_connector(transport.clone());
    let builder = match &settings.credentials {
        // `with_skip_signature` isn't honoured on writes (0.14.2), and without a provider the home directory is searched
        // and the metadata address asked: an empty token settles both.
        Credentials::Anonymous => {
            let nobody = GcpCredential { bearer: String::new() };
            builder
                .with_skip_signature(true)
                .with_credentials(Arc::new(StaticCredentialProvider::new(nobody)))
        }
        Credentials::Gcs { service_account_json } => builder.with_service_account_key(service_account_json.expose()),
        other => return Err(mismatch(other, "GCS")),
    };
    let store = builder.build()?;
    let credentials = settings.credentials.unless_anonymous(store.credentials());
    let bucket = Bucket::new(&transport, format!("{endpoint}/{bucket}"), Signs::Gcs { credentials });
    Ok(Remote::paged(store, prefix, transport, bucket))
}

/// The collection's path becomes a prefix: `object_store` lists paths from the host's root whatever its base URL.
fn webdav(origin: &str, prefix: &str, way: &Way<'_>) -> Result<Remote, BadStore> {
    let settings = way.settings;
    match &settings.credentials {
        Credentials::Anonymous | Credentials::Basic { .. } | Credentials::Bearer { .. } => {}
        other => return Err(mismatch(other, "WebDAV")),
    }
    let transport = way.transport(origin)?;
    let store = HttpBuilder::new()
        .with_url(origin)
        .with_retry(no_retries())
        .with_client_options(options())
        .with_http_connector(transport.clone())
        .build()?;
    Ok(Remote {
        store: Arc::new(store),
        lister: Lister::Directories,
        prefix: prefix.to_owned(),
        bucket: Bucket::new(&transport, origin.to_owned(), Signs::Nobody),
        transport,
    })
}

impl Credentials {
    /// The store's own provider of these credentials, when there are any to provide.
    fn unless_anonymous<P: Clone>(&self, provider: &P) -> Option<P> {
        match self {
            Self::Anonymous => None,
            Self::S3 { .. }
            | Self::Azure { .. }
            | Self::Gcs { .. }
            | Self::Basic { .. }
            | Self::Bearer { .. }
            | Self::Ssh { .. } => Some(provider.clone()),
        }
    }
}

fn mismatch(given: &Credentials, wanted: &'static str) -> BadStore {
    let given = given.kind();
    BadStore::Credentials { given, wanted }
}

fn no_retries() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

/// The transport decides about encryption; `object_store` must not decide again.
fn options() -> ClientOptions {
    ClientOptions::new().with_allow_http(true)
}
