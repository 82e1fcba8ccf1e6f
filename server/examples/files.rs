//! The files of a folder, with ranges, conditional requests and lists.
//!
//! ```console
//! $ cargo run -p wirepath --example files -- docs &
//! $ curl http://127.0.0.1:8080/
//! $ curl -r 0-99 http://127.0.0.1:8080/ARCHITECTURE.md
//! ```
//!
//! On other networks: see `common/mod.rs`.

mod common;

use common::Failed;
use wirepath::{FileServer, Server};

fn main() -> Result<(), Failed> {
    common::run(|place| {
        let root = place.rest.first().map_or(".", String::as_str);
        let files = FileServer::new(root)?;
        Ok(Server::new(files).serve(place.listen("http")?)?)
    })
}
