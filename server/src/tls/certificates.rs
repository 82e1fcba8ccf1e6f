//! The certificates of a server, and how they are replaced while it runs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::client::verify_server_name;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::TlsError;
use super::config::{certificates_of, provider, read_file};

/// Where a certificate and its key come from.
#[derive(Clone, Debug)]
enum Origin {
    Files { certificate: PathBuf, key: PathBuf },
    Memory(Arc<CertifiedKey>),
}

/// What tells that a file was changed: its time and its length. `None` for one
/// that is not there.
type Stamp = Option<(SystemTime, u64)>;

impl Origin {
    fn load(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        match self {
            Origin::Files { certificate, key } => {
                certified(&read_file(certificate)?, &read_file(key)?)
            }
            Origin::Memory(loaded) => Ok(loaded.clone()),
        }
    }

    fn stamps(&self) -> [Stamp; 2] {
        let stamp = |path: &PathBuf| {
            let about = std::fs::metadata(path).ok()?;
            Some((about.modified().ok()?, about.len()))
        };
        match self {
            Origin::Files { certificate, key } => [stamp(certificate), stamp(key)],
            Origin::Memory(_) => [None, None],
        }
    }
}

fn certified(certificate: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates_of(certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| match e {
        pem::Error::NoItemsFound => TlsError::NoKey,
        other => TlsError::Pem(other),
    })?;
    let certified = CertifiedKey::from_der(chain, key, &provider());
    certified.map(Arc::new).map_err(TlsError::Certificate)
}

/// The certificates of a server: one for all names, or several of which a
/// client gets the first that is valid for the name that it asks for (SNI) and
/// that it can verify the signature of; the first of all, if none is.
///
/// They may be replaced while the server runs: [`reload`](Certificates::reload)
/// reads their files again. New connections get the new ones, all at once;
/// those that are open go on. If anything is wrong with a new one, the old ones
/// stay. Nothing watches the files: call
/// [`reload_if_changed`](Certificates::reload_if_changed) now and then, or
/// `reload` on a signal. Reading files blocks the thread, so in a goroutine it
/// belongs in [`blocking`](crate::runtime::blocking).
#[derive(Debug)]
pub struct Certificates {
    origins: Vec<Origin>,
    current: RwLock<Arc<[Arc<CertifiedKey>]>>,
    /// Of the files as they were read; held while they are read again.
    stamps: Mutex<Vec<[Stamp; 2]>>,
}

impl Certificates {
    /// The certificate of a PEM file, with those after it that vouch for it,
    /// and its private key from another file (or the same).
    ///
    /// # Errors
    ///
    /// When a file cannot be read, is not PEM, has no certificate or no key;
    /// when the key is not the certificate's or not of a kind that ring can use
    /// (RSA, ECDSA on P-256 or P-384, Ed25519).
    pub fn from_files(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Certificates, TlsError> {
        Certificates::of(Vec::new()).and_files(certificate, key)
    }

    /// As [`Certificates::from_files`], from what would be in the files.
    ///
    /// # Errors
    ///
    /// As [`Certificates::from_files`].
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Certificates, TlsError> {
        Certificates::of(Vec::new()).and_pem(certificate, key)
    }

    /// Another certificate, for other names or with another kind of key.
    ///
    /// # Errors
    ///
    /// As [`Certificates::from_files`].
    pub fn and_files(
        self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Certificates, TlsError> {
        let (certificate, key) = (certificate.into(), key.into());
        self.and(Origin::Files { certificate, key })
    }

    /// As [`Certificates::and_files`], from what would be in the files.
    ///
    /// # Errors
    ///
    /// As [`Certificates::from_files`].
    pub fn and_pem(self, certificate: &[u8], key: &[u8]) -> Result<Certificates, TlsError> {
        self.and(Origin::Memory(certified(certificate, key)?))
    }

    fn of(origins: Vec<Origin>) -> Certificates {
        Certificates {
            origins,
            current: RwLock::new(Arc::new([])),
            stamps: Mutex::default(),
        }
    }

    fn and(mut self, origin: Origin) -> Result<Certificates, TlsError> {
        self.origins.push(origin);
        self.reload()?;
        Ok(self)
    }

    /// Reads all files again.
    ///
    /// # Errors
    ///
    /// As [`Certificates::from_files`]; nothing was replaced then.
    pub fn reload(&self) -> Result<(), TlsError> {
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        // Before they are read: what is changed meanwhile is seen as changed.
        let found = self.origins.iter().map(Origin::stamps).collect();
        self.read_all()?;
        *stamps = found;
        Ok(())
    }

    /// Reads all files again if the time or the length of one has changed;
    /// whether that was so. After an error the next call tries again: a
    /// certificate and its key are seldom written at the same moment.
    ///
    /// # Errors
    ///
    /// As [`Certificates::reload`].
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let found: Vec<_> = self.origins.iter().map(Origin::stamps).collect();
        if *stamps == found {
            return Ok(false);
        }
        self.read_all()?;
        *stamps = found;
        Ok(true)
    }

    fn read_all(&self) -> Result<(), TlsError> {
        let loaded: Result<Arc<[_]>, _> = self.origins.iter().map(Origin::load).collect();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded?;
        Ok(())
    }

    fn current(&self) -> Arc<[Arc<CertifiedKey>]> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }
}

/// Whether the certificate is valid for this name.
fn is_for(certified: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = certified.cert.first().map(ParsedCertificate::try_from);
    matches!(parsed, Some(Ok(parsed)) if verify_server_name(&parsed, name).is_ok())
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let all = self.current();
        let usable = |c: &&Arc<CertifiedKey>| {
            let scheme = c.key.choose_scheme(hello.signature_schemes());
            all.len() == 1 || scheme.is_some()
        };
        let name = hello.server_name().filter(|_| all.len() > 1);
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| all.iter().filter(usable).find(|c| is_for(c, &name)));
        named
            .or_else(|| all.iter().find(usable))
            .or_else(|| all.first())
            .cloned()
    }
}
