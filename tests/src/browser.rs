//! A real browser inside a lab: headless Chromium, told what to do over its
//! DevTools protocol (<https://chromedevtools.github.io/devtools-protocol/>).
//!
//! A message is a JSON object with an `id`, and so is its answer; what comes
//! between without one is an event, of which those that tell of trouble are kept
//! ([`Browser::troubles`]).

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::lab::Lab;
use crate::process::Daemon;
use crate::wait::wait_until;

/// Where the browser is, on Debian.
const PROGRAM: &str = "/usr/bin/chromium";

/// What it prints before the address of its protocol.
const LISTENING: &str = "DevTools listening on ";

/// Without a display, a sandbox that root may not have, a graphics card, or
/// anything that asks a network for updates.
const OPTIONS: [&str; 10] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
];

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    socket: WebSocket<TcpStream>,
    session: String,
    last_id: u64,
    troubles: Vec<String>,
    _program: Daemon,
}

impl Browser {
    /// Starts one in the client's namespace of a lab.
    ///
    /// None, after saying so, where the machine has none.
    ///
    /// # Panics
    /// Instead of returning None, with `WIREPATH_REQUIRE_LAB=1` set; or when it
    /// does not start.
    pub fn start(lab: &Lab) -> Option<Browser> {
        if !Path::new(PROGRAM).exists() {
            let reason = format!("there is no {PROGRAM} (try `apt-get install chromium`)");
            let is_required = std::env::var_os("WIREPATH_REQUIRE_LAB").is_some_and(|v| v == "1");
            assert!(!is_required, "WIREPATH_REQUIRE_LAB=1, and {reason}");
            let _ = writeln!(std::io::stderr(), "SKIPPED a test with a browser: {reason}");
            return None;
        }
        let mut command = lab.net().command("setpriv");
        command.args(["--pdeathsig", "KILL", PROGRAM]).args(OPTIONS);
        let profile = lab.dir().join("browser");
        command.arg(format!("--user-data-dir={}", profile.display()));
        command.arg("about:blank");
        let mut program = Daemon::start(&mut command).expect("it is there");
        program.wait_for(LISTENING);
        let url = after(&program.output(), LISTENING);
        let socket = connect(lab, &url);
        let mut browser = Browser {
            socket,
            session: String::new(),
            last_id: 0,
            troubles: Vec::new(),
            _program: program,
        };
        browser.attach();
        Some(browser)
    }

    /// Makes a page and listens to it.
    fn attach(&mut self) {
        let made = self.call("Target.createTarget", &json!({"url": "about:blank"}));
        let flat = json!({"targetId": made["targetId"], "flatten": true});
        let attached = self.call("Target.attachToTarget", &flat);
        let session = attached["sessionId"].as_str().expect("a session");
        self.session = session.to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            self.call(&format!("{domain}.enable"), &json!({}));
        }
    }

    /// Asks for something and waits for the answer.
    ///
    /// # Panics
    /// When the browser is gone, or says that it cannot.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        let message = Message::text(message.to_string());
        self.socket.send(message).expect("the browser listens");
        loop {
            let mut answer = self.next();
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            self.note(&answer);
        }
    }

    fn next(&mut self) -> Value {
        loop {
            let message = self.socket.read().expect("the browser answers");
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).expect("it speaks JSON");
            }
        }
    }

    /// Keeps an event that tells of trouble.
    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        let is_trouble = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => {
                matches!(
                    params["type"].as_str(),
                    Some("error" | "warning" | "assert")
                )
            }
            // Refused resources and breaches of the page's policy.
            Some("Log.entryAdded") => {
                matches!(params["entry"]["level"].as_str(), Some("error" | "warning"))
            }
            _ => false,
        };
        if is_trouble {
            self.troubles.push(params.to_string());
        }
    }

    /// Exceptions, errors and warnings of the page's console so far.
    pub fn troubles(&mut self) -> &[String] {
        // What was sent before the answer to this has come by then.
        self.eval("0");
        &self.troubles
    }

    /// The value of an expression, or of its promise.
    ///
    /// # Panics
    /// When it throws.
    #[track_caller]
    pub fn eval(&mut self, expression: &str) -> Value {
        let params = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true,
        });
        let mut answer = self.call("Runtime.evaluate", &params);
        let thrown = &answer["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {thrown}");
        answer["result"]["value"].take()
    }

    /// The text of the element of an id.
    pub fn text(&mut self, id: &str) -> String {
        let text = self.eval(&format!("document.getElementById({id:?}).textContent"));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// The roles of what can be pressed, chosen or read as a picture and has no
    /// name for those who do not see it.
    pub fn nameless(&mut self) -> Vec<String> {
        const NAMED: [&str; 6] = ["button", "combobox", "heading", "image", "link", "region"];
        let tree = self.call("Accessibility.getFullAXTree", &json!({}));
        let nodes = tree["nodes"].as_array().expect("nodes");
        let role = |node: &Value| node["role"]["value"].as_str().unwrap_or("").to_owned();
        nodes
            .iter()
            .filter(|node| node["ignored"] != true)
            .filter(|node| NAMED.contains(&role(node).as_str()))
            .filter(|node| node["name"]["value"].as_str().is_none_or(str::is_empty))
            .map(role)
            .collect()
    }

    /// Presses the element of an id.
    pub fn click(&mut self, id: &str) {
        self.eval(&format!("document.getElementById({id:?}).click()"));
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// If it does not become so.
    #[track_caller]
    pub fn wait_until(&mut self, expression: &str) {
        wait_until(expression, || self.eval(expression) == true);
    }

    /// Goes to an address.
    pub fn open(&mut self, url: &str) {
        // Elsewhere first: to another fragment of the same page nothing is loaded.
        self.call("Page.navigate", &json!({"url": "about:blank"}));
        let gone = self.call("Page.navigate", &json!({"url": url}));
        assert!(gone["errorText"].is_null(), "{url}: {gone}");
        self.wait_until("document.readyState === 'complete'");
    }

    /// Sets the window's size, pixels.
    pub fn resize(&mut self, width: u32, height: u32) {
        let params = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", &params);
    }

    /// Sets what the system asks of pages: `light` or `dark`, and little motion.
    pub fn prefer(&mut self, scheme: &str, little_motion: bool) {
        let motion = if little_motion {
            "reduce"
        } else {
            "no-preference"
        };
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]);
        let params = json!({ "features": features });
        self.call("Emulation.setEmulatedMedia", &params);
    }

    /// A picture of the window as PNG, also put into `path`.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn screenshot(&mut self, path: &Path) -> Vec<u8> {
        let shot = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        let data = shot["data"].as_str().expect("base64");
        let png = STANDARD.decode(data).expect("base64");
        std::fs::write(path, &png).expect("the lab's folder can be written");
        png
    }
}

/// What stands behind `mark`, up to the end of its line.
fn after(text: &str, mark: &str) -> String {
    let (_, rest) = text.split_once(mark).expect("it was waited for");
    rest.lines().next().unwrap_or_default().trim().to_owned()
}

fn connect(lab: &Lab, url: &str) -> WebSocket<TcpStream> {
    let rest = url.strip_prefix("ws://").expect("a WebSocket");
    let (address, _) = rest.split_once('/').expect("a path");
    let address: SocketAddr = address.parse().expect("an address");
    let stream = lab.net().connect(address).expect("the browser listens");
    let (socket, _) = tungstenite::client(url, stream).expect("a handshake");
    socket
}
