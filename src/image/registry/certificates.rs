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
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, parse_pem};

use super::address::{DOCKER_REGISTRY_HOST, Origin};
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
    pub(super) roots: Vec<Certificate<'static>>,
    pub(super) client: Option<ClientCert>,
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

fn items(file: &Path) -> Result<Vec<PemItem<'static>>> {
    let bytes = limits::read_file(file, limits::USER_FILE_BYTES_MAX)?;
    parse_pem(&bytes)
        .collect::<Result<Vec<_>, ureq::Error>>()
        .map_err(|error| Failure::user(format!("it is not valid PEM: {error}")))
}

/// The certificates in a file; at least one.
fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>> {
    let found = items(file)?.into_iter().filter_map(|item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    });
    let found: Vec<_> = found.collect();
    if found.is_empty() {
        return Err(Failure::user("there is no certificate in it"));
    }
    Ok(found)
}

fn authorities(file: &Path) -> Result<Vec<Certificate<'static>>> {
    let found = certificates(file)?;
    for certificate in &found {
        RootCertStore::empty()
            .add(CertificateDer::from(certificate.der()))
            .map_err(|error| Failure::user(format!("it cannot be believed: {error}")))?;
    }
    Ok(found)
}

fn client(file: &Path, key_file: &Path) -> Result<ClientCert> {
    let chain = certificates(file).doing(|| format!("read \"{}\"", file.display()))?;
    let (key, key_der) = private_key(key_file).doing(|| format!("read \"{}\"", key_file.display()))?;
    // The HTTP library takes it for granted that the two belong together.
    let ders = chain.iter().map(|certificate| CertificateDer::from(certificate.der().to_vec())).collect();
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_root_certificates(RootCertStore::empty()).with_client_auth_cert(ders, key_der))
        .map_err(|error| {
            let (file, key_file) = (file.display(), key_file.display());
            Failure::user(format!("\"{file}\" and \"{key_file}\" are no pair that can be used: {error}"))
        })?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

/// The private key in a file, once for the HTTP library and once for the check.
fn private_key(file: &Path) -> Result<(PrivateKey<'static>, PrivateKeyDer<'static>)> {
    let status = file.metadata()?;
    // ssh's rule: your own key is for you alone; the host's may be for all its users.
    if status.uid() == nix::unistd::getuid().as_raw() && status.mode() & 0o077 != 0 {
        return Err(Failure::user(format!("your private key is open to others (mode {:o})", status.mode() & 0o7777))
            .hint(format!("chmod go= {}", file.display())));
    }
    let bytes = limits::read_file(file, limits::USER_FILE_BYTES_MAX)?;
    match (PrivateKey::from_pem(&bytes), PrivateKeyDer::from_pem_slice(&bytes)) {
        (Ok(key), Ok(der)) => Ok((key, der)),
        _ => Err(Failure::user("there is no private key in it").hint("a key with a passphrase cannot be used")),
    }
}
