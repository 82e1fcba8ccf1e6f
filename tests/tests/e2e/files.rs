//! `wirepath serve --root`: files instead of the demo site.

use std::fs;

use wirepath_tests::{Lab, Serve, Server};

use crate::curl::curl;

on_every_device! {
    a_folder_is_served_and_nothing_above_it,
}

fn a_folder_is_served_and_nothing_above_it(lab: &Lab) {
    let root = lab.dir().join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(root.join("page.html"), "<p>page</p>").unwrap();
    fs::write(root.join("sub/index.html"), "<p>index</p>").unwrap();
    fs::write(lab.dir().join("secret"), "secret").unwrap();
    let args = ["--root", root.to_str().unwrap()];
    let server = Serve::new(lab).args(&args).start();

    let url = |path: &str| format!("http://{}{path}", Server::V4);
    let page = curl(lab, &[&url("/page.html")]);
    assert_eq!((page.status, page.text().as_str()), (200, "<p>page</p>"));
    let kind = page.field("content-type").unwrap();
    assert!(kind.starts_with("text/html"), "{kind}");
    let index = curl(lab, &[&url("/sub/")]);
    assert_eq!((index.status, index.text().as_str()), (200, "<p>index</p>"));

    for path in [
        "/../secret",
        "/sub/../../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
    ] {
        let reply = server.get(path);
        assert_ne!(reply.status, 200, "{path}");
        assert_ne!(reply.body, b"secret", "{path}");
    }
    assert_eq!(server.get("/nope").status, 404);
}
