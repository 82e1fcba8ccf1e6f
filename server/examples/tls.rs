//! HTTPS, with a certificate that is read again when its file changes.
//!
//! ```console
//! $ openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
//!       -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
//!       -keyout key.pem -out cert.pem
//! $ cargo run -p wirepath --features tls --example tls -- cert.pem key.pem &
//! $ curl --cacert cert.pem https://localhost:8080/
//! TLSv1_3 with TLS13_AES_256_GCM_SHA384
//! ```
//!
//! With `SSLKEYLOGFILE=keys.log` in its environment it writes what Wireshark
//! needs to decipher a capture. On other networks: see `common/mod.rs`.

mod common;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use common::Failed;
use wirepath::runtime::{blocking, go, sleep};
use wirepath::tls::{Certificates, TlsConfig};
use wirepath::{Request, ResponseWriter, Server};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

fn hello(w: &mut ResponseWriter, r: &mut Request) {
    if let Some(tls) = r.tls() {
        // A client that has gone is no failure of ours.
        let _ = writeln!(w, "{:?} with {:?}", tls.version, tls.cipher_suite);
    }
}

fn watch(certificates: &Certificates) -> ! {
    loop {
        sleep(LOOK_EVERY);
        match blocking(|| certificates.reload_if_changed()) {
            Ok(false) => {}
            Ok(true) => println!("the certificate was read again"),
            Err(e) => eprintln!("the old certificate stays: {e}"),
        }
    }
}

fn main() -> Result<(), Failed> {
    common::run(|place| {
        let [certificate, key] = place.rest.as_slice() else {
            return Err("say the files of a certificate and of its key".into());
        };
        let certificates = Arc::new(Certificates::from_files(certificate, key)?);
        let tls = TlsConfig::builder(certificates.clone()).key_log().build()?;
        go(move || watch(&certificates));
        Ok(Server::new(hello).serve_tls(place.listen("https")?, &tls)?)
    })
}
