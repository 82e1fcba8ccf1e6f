//! A list of notes, as JSON, with Go's patterns.
//!
//! ```console
//! $ cargo run -p wirepath --features json --example rest &
//! $ curl -d '{"text":"buy milk"}' http://127.0.0.1:8080/notes
//! {"id":1,"text":"buy milk"}
//! $ curl http://127.0.0.1:8080/notes
//! [{"id":1,"text":"buy milk"}]
//! $ curl -X DELETE http://127.0.0.1:8080/notes/1
//! $ curl -i http://127.0.0.1:8080/notes/1
//! HTTP/1.1 404 Not Found
//! ```
//!
//! On other networks: see `common/mod.rs`.

mod common;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard};

use common::Failed;
use serde::{Deserialize, Serialize};
use wirepath::http::StatusCode;
use wirepath::{Request, ResponseWriter, ServeMux, Server, error, not_found};

/// The most that a note may have, in bytes.
const MAX_BODY_BYTES: u64 = 64 * 1024;

#[derive(Deserialize)]
struct NewNote {
    text: String,
}

#[derive(Clone, Serialize)]
struct Note {
    id: u64,
    text: String,
}

#[derive(Default)]
struct Notes {
    list: Mutex<(u64, BTreeMap<u64, Note>)>,
}

impl Notes {
    /// Nothing waits while it is held.
    fn list(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Note>)> {
        self.list.lock().expect("nothing panics under it")
    }

    fn all(&self, w: &mut ResponseWriter) {
        let notes: Vec<Note> = self.list().1.values().cloned().collect();
        answer(w, StatusCode::OK, &notes);
    }

    fn add(&self, w: &mut ResponseWriter, r: &mut Request) {
        let body = (&mut r.body).take(MAX_BODY_BYTES);
        let new: NewNote = match serde_json::from_reader(body) {
            Ok(new) => new,
            Err(e) => return error(w, &e.to_string(), StatusCode::BAD_REQUEST),
        };
        let mut list = self.list();
        list.0 += 1;
        let note = Note {
            id: list.0,
            text: new.text,
        };
        list.1.insert(note.id, note.clone());
        drop(list);
        answer(w, StatusCode::CREATED, &note);
    }

    fn one(&self, w: &mut ResponseWriter, r: &mut Request) {
        let note = id(r).and_then(|id| self.list().1.get(&id).cloned());
        match note {
            Some(note) => answer(w, StatusCode::OK, &note),
            None => not_found(w, r),
        }
    }

    fn remove(&self, w: &mut ResponseWriter, r: &mut Request) {
        let removed = id(r).and_then(|id| self.list().1.remove(&id));
        match removed {
            Some(_) => w.write_header(StatusCode::NO_CONTENT),
            None => not_found(w, r),
        }
    }
}

fn id(r: &Request) -> Option<u64> {
    r.path_value("id").parse().ok()
}

fn answer(w: &mut ResponseWriter, status: StatusCode, value: &impl Serialize) {
    w.header("Content-Type", "application/json");
    w.write_header(status);
    // A client that has gone is no failure of ours.
    let _ = serde_json::to_writer(w, value);
}

fn routes() -> ServeMux {
    let notes = Arc::new(Notes::default());
    let mut mux = ServeMux::new();
    let to = notes.clone();
    mux.handle_func("GET /notes", move |w, _| to.all(w));
    let to = notes.clone();
    mux.handle_func("POST /notes", move |w, r| to.add(w, r));
    let to = notes.clone();
    mux.handle_func("GET /notes/{id}", move |w, r| to.one(w, r));
    mux.handle_func("DELETE /notes/{id}", move |w, r| notes.remove(w, r));
    mux
}

fn main() -> Result<(), Failed> {
    common::run(|place| Ok(Server::new(routes()).serve(place.listen("http")?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wirepath::httptest::request;

    #[test]
    fn notes_come_and_go() {
        let mux = routes();
        let added = request("POST", "/notes")
            .body(r#"{"text":"a"}"#)
            .serve(&mux);
        assert_eq!(
            (added.status(), &*added.text()),
            (201, r#"{"id":1,"text":"a"}"#)
        );
        assert_eq!(request("GET", "/notes/1").serve(&mux).status(), 200);
        assert_eq!(request("DELETE", "/notes/1").serve(&mux).status(), 204);
        assert_eq!(request("GET", "/notes/1").serve(&mux).status(), 404);
        assert_eq!(
            request("POST", "/notes").body("{").serve(&mux).status(),
            400
        );
    }
}
