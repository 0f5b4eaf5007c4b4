//! A real browser under remote control: headless Chromium over its DevTools protocol.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Longest wait for anything the browser does.
const PATIENCE: Duration = Duration::from_secs(60);

/// One page of a browser of its own, with a fresh profile. Dropping it ends the browser.
pub(crate) struct Browser {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: Value,
    sent: u64,
    /// What the page complained about: errors, and breaches of its policy.
    pub(crate) complaints: Vec<String>,
    process: Child,
    profile: tempfile::TempDir,
}

impl Drop for Browser {
    /// Ends the browser with its helpers, and removes the profile once nobody writes to it any more.
    fn drop(&mut self) {
        if let Some(group) = self.process.id() {
            let killed =
                std::process::Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).status();
            assert!(
                killed.is_ok_and(|status| status.success()) || std::thread::panicking(),
                "the browser cannot be ended"
            );
        }
        let mut gone = 0;
        for _ in 0..500 {
            let ended = matches!(self.process.try_wait(), Ok(Some(_)));
            // What fails to be removed now is removed in the next round.
            let _ = std::fs::remove_dir_all(self.profile.path());
            gone = if ended && !self.profile.path().exists() { gone + 1 } else { 0 };
            if gone == 5 {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

impl Browser {
    pub(crate) async fn start() -> Self {
        tokio::time::timeout(PATIENCE, Self::launch()).await.expect("the browser starts")
    }

    async fn launch() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let spawned = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--hide-scrollbars", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            // What it writes besides its profile goes with it; its helpers end with its group.
            .env("TMPDIR", profile.path())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut process = match spawned {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                panic!("chromium is missing: install the package `chromium`, the live page is tested in it")
            }
            spawned => spawned.unwrap(),
        };
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next_line().await.unwrap().expect("the browser says where it listens");
            if let Some(address) = line.strip_prefix("DevTools listening on ") {
                break address.to_owned();
            }
        };
        // The pipe is read to its end, so that the browser never waits for us to read its log.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let (socket, _) = connect_async(address).await.unwrap();
        let mut browser =
            Self { socket, session: Value::Null, sent: 0, complaints: Vec::new(), process, profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" })).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session = browser.call("Target.attachToTarget", attach).await["sessionId"].clone();
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        browser
    }

    /// Sends one command, and returns its result. Events that arrive meanwhile are looked at for complaints.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let id = self.sent;
        let mut command = json!({ "id": id, "method": method, "params": params });
        if !self.session.is_null() {
            command["sessionId"] = self.session.clone();
        }
        let exchange = async {
            self.socket.send(Message::text(command.to_string())).await.unwrap();
            loop {
                let message = self.socket.next().await.expect("the browser lives").unwrap();
                let Ok(text) = message.to_text() else { continue };
                let Ok(message) = serde_json::from_str::<Value>(text) else { continue };
                if message["id"] == id {
                    assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                    break message["result"].clone();
                }
                let serious = match message["method"].as_str() {
                    Some("Runtime.exceptionThrown") => true,
                    Some("Log.entryAdded") => message["params"]["entry"]["level"] == "error",
                    Some("Runtime.consoleAPICalled") => message["params"]["type"] == "error",
                    _ => false,
                };
                if serious {
                    self.complaints.push(message["params"].to_string());
                }
            }
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("the browser answers")
    }

    /// The value of an expression in the page; a promise is awaited.
    pub(crate) async fn value(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", params).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    pub(crate) async fn text(&mut self, id: &str) -> String {
        let value = self.value(&format!("document.getElementById('{id}').textContent.trim()")).await;
        value.as_str().unwrap().to_owned()
    }

    /// Waits until an expression is true, for half a minute at most.
    pub(crate) async fn until(&mut self, expression: &str) {
        let waits = format!(
            "new Promise((done) => {{ const end = Date.now() + 30000; const look = () => \
             ({expression}) || Date.now() > end ? done(Boolean({expression})) : setTimeout(look, 50); look(); }})"
        );
        let met = self.value(&waits).await;
        assert_eq!(met, true, "{expression}; the page says {}", self.value("document.body.innerText").await);
    }

    pub(crate) async fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
        self.until(&format!(
            "location.href !== 'about:blank' && document.readyState === 'complete' && {}",
            true
        ))
        .await;
    }

    /// A picture of what the window shows, as PNG.
    pub(crate) async fn picture(&mut self, width: u32, height: u32, scheme: &str) -> Vec<u8> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media).await;
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        from_base64(shot["data"].as_str().unwrap())
    }

    /// Presses and releases a key.
    pub(crate) async fn press(&mut self, key: &str) {
        for kind in ["rawKeyDown", "keyUp"] {
            let code = match key {
                "Tab" => 9,
                "Enter" => 13,
                _ => 0,
            };
            let params = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", params).await;
        }
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let word = group.iter().fold(0_u32, |word, byte| word << 6 | u32::from(value(*byte)));
        let word = word << (6 * (4 - group.len()));
        bytes.extend(&word.to_be_bytes()[1..group.len()]);
    }
    bytes
}
