//! TLS: whom we believe, and the connector that makes it so.
//!
//! The HTTP library has a connector of its own. This one is in its place
//! because of certificates that sign themselves, which it can not be told
//! about, and because it would read all authorities anew for each connection.

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use super::address::{Origin, Url};
use super::certificates::{Own, Pair};
use crate::error::{Failure, Result};

/// The cryptography of all of it.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A client's configuration that believes `roots`, and shows `pair` to those
/// who ask.
fn config(roots: Vec<CertificateDer<'static>>, pair: Option<Pair>) -> Result<ClientConfig, rustls::Error> {
    let mut store = RootCertStore::empty();
    // Hosts have authorities that nobody can use any more.
    store.add_parsable_certificates(roots.iter().cloned());
    let by_authority = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    // "Dangerous" since it is ours to get right: see `Verifier`.
    let verifier = Arc::new(Verifier { by_authority, roots });
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    match pair {
        Some(Pair { chain, key }) => builder.with_client_auth_cert(chain, key),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// Believes in authorities, and in a certificate that signs itself if it is
/// one of them: that is what `openssl req -x509` makes, and what Go's tools
/// take.
#[derive(Debug)]
struct Verifier {
    by_authority: Arc<WebPkiServerVerifier>,
    roots: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let result = self.by_authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match &result {
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
                if other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity) => {}
            _ => return result,
        }
        // The time was checked before the kind of the certificate was.
        if !self.roots.contains(end_entity) {
            return Err(CertificateError::UnknownIssuer.into());
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_authority.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_authority.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authority.supported_verify_schemes()
    }
}

/// Puts TLS on a connection to one origin, or to a proxy on the way there.
#[derive(Debug)]
pub(super) struct TlsConnector {
    origin: Origin,
    own: Arc<ClientConfig>,
    /// What the host believes, for proxies: what is the origin's own is
    /// neither believed of them nor shown to them.
    roots: Arc<Vec<CertificateDer<'static>>>,
}

impl TlsConnector {
    /// For `origin`, believing `roots` and what is the origin's own.
    pub(super) fn new(origin: &Origin, roots: &Arc<Vec<CertificateDer<'static>>>, own: Own) -> Result<Self> {
        let believed = [roots.as_slice(), &own.roots].concat();
        if believed.is_empty() {
            return Err(Failure::host("this host has no certificates of authorities, so nobody can be believed")
                .hint("install the package ca-certificates, or point SSL_CERT_FILE at such certificates"));
        }
        let own = config(believed, own.client).map_err(|error| Failure::host(error.to_string()))?;
        Ok(Self { origin: origin.clone(), own: Arc::new(own), roots: roots.clone() })
    }
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        // That of a proxy may have a name and a password in it, and is no `Url`.
        let is_own = Url::parse(&details.uri.to_string()).is_ok_and(|url| url.origin == self.origin);
        let host = details.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|_| ureq::Error::Tls("not a host name"))?;
        let config = match is_own {
            true => self.own.clone(),
            false => Arc::new(config(self.roots.to_vec(), None)?),
        };
        let mut conn = ClientConnection::new(config, name)?;
        let mut sock = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        sock.set_timeout(details.timeout);
        conn.complete_io(&mut sock)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport { buffers, stream: StreamOwned { conn, sock } })))
    }
}

/// A connection with TLS on it.
pub(super) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport(..)")
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output)?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let input = self.buffers.input_append_buf();
        let amount = self.stream.read(input)?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
