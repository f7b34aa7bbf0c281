//! Certificates for one registry: authorities to believe beside those of the
//! host, and who we are to those who want a certificate of us
//! (containers-certs.d(5); docker's `certs.d`).
//!
//! ```text
//!   HOST:PORT/          HOST alone for port 443
//!     *.crt             authorities
//!     NAME.cert         ours, shown to this registry alone
//!     NAME.key          its private key
//! ```
//!
//! The first of the places that has a directory for the registry counts.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::address::{DOCKER_REGISTRY_HOST, Origin};
use super::tls;
use crate::error::{Context, Failure, Result};
use crate::image::reference::DEFAULT_REGISTRY;
use crate::limits;

/// The places to look in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificates {
    directories: Vec<PathBuf>,
}

/// What holds for one registry.
#[derive(Default)]
pub(super) struct Own {
    /// Authorities.
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) client: Option<Pair>,
}

/// A certificate of ours, and the private key of the first of the chain.
pub(super) struct Pair {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Certificates {
    /// Those of this user, then those of the host.
    pub fn of_this_user() -> Self {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let config = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
        let own =
            config.into_iter().flat_map(|config| [config.join("kelp/certs.d"), config.join("containers/certs.d")]);
        let hosts = ["/etc/kelp/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
        Self::new(own.chain(hosts).collect())
    }

    /// In these directories.
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories }
    }

    /// What there is for `origin`.
    pub(super) fn of(&self, origin: &Origin) -> Result<Own> {
        let names = names(origin);
        let mut places = self.directories.iter().flat_map(|place| names.iter().map(|name| place.join(name)));
        // What only root may look into is passed over, as podman does.
        match places.find(|place| std::fs::read_dir(place).is_ok()) {
            Some(place) => read(&place).doing(|| format!("read certificates in \"{}\"", place.display())),
            None => Ok(Own::default()),
        }
    }
}

/// How the directory of a registry may be called. A redirect chooses hosts, so
/// a host is not put into a path as it comes.
fn names(origin: &Origin) -> Vec<String> {
    let Origin { host, port, .. } = origin;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if host.starts_with('.') || !host.bytes().all(legal) {
        return Vec::new();
    }
    let mut names = vec![format!("{host}:{port}")];
    if *port == 443 {
        names.push(host.clone());
        names.extend((host == DOCKER_REGISTRY_HOST).then(|| DEFAULT_REGISTRY.to_owned()));
    }
    names
}

fn read(directory: &Path) -> Result<Own> {
    let entries = std::fs::read_dir(directory)?;
    let files: BTreeSet<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let mut own = Own::default();
    for file in &files {
        let doing = || format!("read \"{}\"", file.display());
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => own.roots.extend(authorities(file).doing(doing)?),
            Some("cert") => {
                let key = file.with_extension("key");
                if !files.contains(&key) {
                    return Err(Failure::user("its key is missing").doing(doing()))
                        .hint(|| format!("put the private key of the certificate into {}", key.display()));
                }
                let client = client(file, &key)?;
                own.client.get_or_insert(client);
            }
            Some("key") if !files.contains(&file.with_extension("cert")) => {
                return Err(Failure::user("its certificate is missing").doing(doing()))
                    .hint(|| "authorities end in .crt, a certificate of yours in .cert".to_owned());
            }
            _ => {}
        }
    }
    Ok(own)
}

/// The certificates in a file; at least one.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = limits::read_file(file, limits::USER_FILE_BYTES_MAX)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::user(format!("it is not valid PEM: {error}")))?;
    if found.is_empty() {
        return Err(Failure::user("there is no certificate in it"));
    }
    Ok(found)
}

fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found = certificates(file)?;
    for certificate in &found {
        RootCertStore::empty()
            .add(certificate.clone())
            .map_err(|error| Failure::user(format!("it cannot be believed: {error}")))?;
    }
    Ok(found)
}

fn client(file: &Path, key_file: &Path) -> Result<Pair> {
    let chain = certificates(file).doing(|| format!("read \"{}\"", file.display()))?;
    let key = private_key(key_file).doing(|| format!("read \"{}\"", key_file.display()))?;
    // Tried here, where the files are known.
    ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            let builder = builder.with_root_certificates(RootCertStore::empty());
            builder.with_client_auth_cert(chain.clone(), key.clone_key())
        })
        .map_err(|error| {
            let (file, key_file) = (file.display(), key_file.display());
            Failure::user(format!("\"{file}\" and \"{key_file}\" are no pair that can be used: {error}"))
        })?;
    Ok(Pair { chain, key })
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>> {
    let status = file.metadata()?;
    // ssh's rule: your own key is for you alone; the host's may be for all its users.
    if status.uid() == nix::unistd::getuid().as_raw() && status.mode() & 0o077 != 0 {
        return Err(Failure::user(format!("your private key is open to others (mode {:o})", status.mode() & 0o7777))
            .hint(format!("chmod go= {}", file.display())));
    }
    let bytes = limits::read_file(file, limits::USER_FILE_BYTES_MAX)?;
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| Failure::user("there is no private key in it").hint("a key with a passphrase cannot be used"))
}
