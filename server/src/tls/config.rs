//! What a TLS server is told.

use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::server::{ServerConfig, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{KeyLog, KeyLogFile, RootCertStore, version};

use super::Certificates;

/// The only protocol that is offered (RFC 7301 §6).
const ALPN: &[u8] = b"http/1.1";

/// Why a TLS server cannot be as it is told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read.
    #[error("cannot read {}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What should be PEM (RFC 7468) is not.
    #[error("malformed PEM")]
    Pem(#[source] pem::Error),
    /// There is no certificate in what should have some.
    #[error("no certificate there: a PEM section CERTIFICATE is wanted")]
    NoCertificate,
    /// There is no private key in what should have one.
    #[error("no private key there: a PEM section PRIVATE KEY is wanted")]
    NoKey,
    /// A certificate or a key is not usable, or they do not belong together.
    #[error("the certificate, or its key, cannot be used")]
    Certificate(#[source] rustls::Error),
    /// The roots for client certificates are not usable.
    #[error("client certificates cannot be verified")]
    ClientRoots(#[source] VerifierBuilderError),
    /// rustls refuses it for another reason.
    #[error("TLS cannot be set up so")]
    Config(#[source] rustls::Error),
}

/// Whether clients show certificates.
#[derive(Clone, Debug, Default)]
pub enum ClientAuth {
    /// They are not asked for one.
    #[default]
    None,
    /// A client that shows one must show one that these roots vouch for.
    Optional(Arc<RootCertStore>),
    /// Each client must show one that these roots vouch for.
    Required(Arc<RootCertStore>),
}

impl ClientAuth {
    /// The roots of a PEM file, to be verified against.
    ///
    /// # Errors
    ///
    /// When there are none, or one is unusable.
    pub fn roots_from_pem(pem: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates_of(pem)? {
            roots.add(certificate).map_err(TlsError::Certificate)?;
        }
        Ok(Arc::new(roots))
    }
}

/// The certificates of a PEM text: one at least.
pub(super) fn certificates_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found.map_err(TlsError::Pem)? {
        none if none.is_empty() => Err(TlsError::NoCertificate),
        found => Ok(found),
    }
}

pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// How a server speaks TLS. Clones share what it says, and the sessions that
/// clients may resume.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    config: Arc<ServerConfig>,
}

impl TlsConfig {
    /// With these certificates, and safe settings for all else.
    ///
    /// # Errors
    ///
    /// [`TlsError::Config`] when the system has no randomness.
    pub fn new(certificates: Arc<Certificates>) -> Result<TlsConfig, TlsError> {
        TlsConfig::builder(certificates).build()
    }

    /// With these certificates, to be told more.
    pub fn builder(certificates: Arc<Certificates>) -> TlsConfigBuilder {
        TlsConfigBuilder {
            certificates,
            client_auth: ClientAuth::None,
            only_tls13: false,
            key_log: KeyLogTo::Nobody,
        }
    }

    /// With the certificate of a PEM file, those after it that vouch for it,
    /// and its key from another file.
    ///
    /// # Errors
    ///
    /// As [`Certificates::from_files`].
    pub fn from_files(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<TlsConfig, TlsError> {
        TlsConfig::new(Arc::new(Certificates::from_files(certificate, key)?))
    }

    /// As rustls is to have it. Its protocols for ALPN become `http/1.1`, since
    /// no other is spoken.
    pub fn from_rustls(mut config: ServerConfig) -> TlsConfig {
        config.alpn_protocols = vec![ALPN.to_vec()];
        TlsConfig {
            config: Arc::new(config),
        }
    }

    pub(crate) fn rustls(&self) -> &Arc<ServerConfig> {
        &self.config
    }
}

/// Makes a [`TlsConfig`].
#[derive(Debug)]
#[must_use]
pub struct TlsConfigBuilder {
    certificates: Arc<Certificates>,
    client_auth: ClientAuth,
    only_tls13: bool,
    key_log: KeyLogTo,
}

/// Who is told the secrets of connections.
enum KeyLogTo {
    Nobody,
    File,
    Function(Arc<dyn KeyLog>),
}

impl fmt::Debug for KeyLogTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyLogTo::Nobody => "Nobody",
            KeyLogTo::File => "File",
            KeyLogTo::Function(_) => "Function",
        })
    }
}

/// Makes lines of secrets.
struct Lines<F>(F);

impl<F> fmt::Debug for Lines<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

impl<F: Fn(&str) + Send + Sync> KeyLog for Lines<F> {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut line = label.to_owned();
        for bytes in [client_random, secret] {
            line.push(' ');
            for byte in bytes {
                // Writing to a string does not fail.
                let _ = write!(line, "{byte:02x}");
            }
        }
        (self.0)(&line);
    }
}

impl TlsConfigBuilder {
    /// Whether clients show certificates; they are not asked unless set.
    pub fn client_auth(mut self, auth: ClientAuth) -> TlsConfigBuilder {
        self.client_auth = auth;
        self
    }

    /// Refuses TLS 1.2.
    pub fn only_tls13(mut self) -> TlsConfigBuilder {
        self.only_tls13 = true;
        self
    }

    /// Writes the secrets of connections to the file that the environment's
    /// `SSLKEYLOGFILE` names, if it names one, so that a capture can be
    /// deciphered (Wireshark's «(Pre)-Master-Secret log»). Whoever has that file
    /// can read all that was said.
    pub fn key_log(mut self) -> TlsConfigBuilder {
        self.key_log = KeyLogTo::File;
        self
    }

    /// Hands the secrets of connections to `log`, as lines of a key log
    /// (draft-ietf-tls-keylogfile) without their ends, before anything that they
    /// protect is sent: to the driver's `Secrets` of a capture, so that it can be
    /// deciphered by itself. Whoever has them can read all that was said.
    pub fn key_log_to(mut self, log: impl Fn(&str) + Send + Sync + 'static) -> TlsConfigBuilder {
        self.key_log = KeyLogTo::Function(Arc::new(Lines(log)));
        self
    }

    /// The configuration.
    ///
    /// # Errors
    ///
    /// [`TlsError::ClientRoots`] when there are no roots to verify clients
    /// against; [`TlsError::Config`] when the system has no randomness.
    pub fn build(self) -> Result<TlsConfig, TlsError> {
        let versions: &[_] = match self.only_tls13 {
            true => &[&version::TLS13],
            false => &[&version::TLS13, &version::TLS12],
        };
        let verifier = self.verifier()?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(TlsError::Config)?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(self.certificates);
        config.ticketer = ring::Ticketer::new().map_err(TlsError::Config)?;
        match self.key_log {
            KeyLogTo::Nobody => {}
            KeyLogTo::File => config.key_log = Arc::new(KeyLogFile::new()),
            KeyLogTo::Function(log) => config.key_log = log,
        }
        Ok(TlsConfig::from_rustls(config))
    }

    fn verifier(
        &self,
    ) -> Result<Option<Arc<dyn rustls::server::danger::ClientCertVerifier>>, TlsError> {
        let verifier = |roots: &Arc<RootCertStore>| {
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
        };
        let built = match &self.client_auth {
            ClientAuth::None => return Ok(None),
            ClientAuth::Optional(roots) => verifier(roots).allow_unauthenticated().build(),
            ClientAuth::Required(roots) => verifier(roots).build(),
        };
        built.map(|v| Some(v as _)).map_err(TlsError::ClientRoots)
    }
}
