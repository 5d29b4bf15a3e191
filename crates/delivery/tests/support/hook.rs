//! An endpoint that answers by script.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What is done with a request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Status, and header lines that end in CRLF.
    Status(u16, String),
    Never,
    /// One byte of the head now and then, for ever.
    Drip,
    /// A head of header lines that never ends.
    EndlessHead,
    /// A good head, then a body that never ends.
    EndlessBody,
    /// The connection breaks.
    Close,
}

pub(crate) fn status(code: u16) -> Answer {
    Answer::Status(code, String::new())
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

type Script = dyn Fn(usize) -> Answer + Send + Sync;

/// Listens until dropped.
pub(crate) struct Hook {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) bytes_sent: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<Request>>>,
    serving: JoinHandle<()>,
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Hook {
    /// `script` gets the number of the request, from 0.
    pub(crate) async fn start(script: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen("127.0.0.1:0", None, script).await
    }

    pub(crate) async fn listen(
        at: &str,
        tls: Option<TlsAcceptor>,
        script: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let script: Arc<Script> = Arc::new(script);
        let serve = Serve {
            script,
            requests: Arc::default(),
            bytes_sent: Arc::default(),
        };
        let connections = Arc::new(AtomicUsize::new(0));
        let (requests, bytes_sent) = (Arc::clone(&serve.requests), Arc::clone(&serve.bytes_sent));
        let counted = Arc::clone(&connections);
        let serving = tokio::spawn(async move {
            // Connections end with the listener.
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let (serve, tls) = (serve.clone(), tls.clone());
                open.spawn(async move {
                    match tls {
                        None => serve.connection(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve.connection(stream).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            connections,
            bytes_sent,
            requests,
            serving,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

#[derive(Clone)]
struct Serve {
    script: Arc<Script>,
    requests: Arc<Mutex<Vec<Request>>>,
    bytes_sent: Arc<AtomicUsize>,
}

impl Serve {
    async fn connection(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        while let Some(request) = read(&mut stream).await {
            let number = {
                let mut requests = self.requests.lock().unwrap();
                requests.push(request);
                requests.len() - 1
            };
            let answer = (self.script)(number);
            if !self.answer(&mut stream, answer).await {
                return;
            }
        }
    }

    /// Whether the connection goes on.
    async fn answer(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: Answer) -> bool {
        match answer {
            Answer::Status(code, headers) => {
                let head = format!("HTTP/1.1 {code} Scripted\r\n{headers}content-length: 0\r\n\r\n");
                self.send(stream, head.as_bytes()).await
            }
            Answer::Never => {
                // Until the other side gives up.
                _ = stream.read(&mut [0; 1]).await;
                false
            }
            Answer::Drip => {
                while self.send(stream, b"H").await {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                false
            }
            Answer::EndlessHead => {
                let head = b"HTTP/1.1 200 OK\r\n".as_slice();
                let more = self.send(stream, head).await;
                while more && self.send(stream, &b"x-more: yes\r\n".repeat(1_000)).await {}
                false
            }
            Answer::EndlessBody => {
                let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".as_slice();
                let more = self.send(stream, head).await;
                let chunk = [b"1000\r\n".as_slice(), &[b'x'; 0x1000], b"\r\n"].concat();
                while more && self.send(stream, &chunk).await {}
                false
            }
            Answer::Close => false,
        }
    }

    async fn send(&self, stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> bool {
        let sent = stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok();
        if sent {
            self.bytes_sent.fetch_add(bytes.len(), Ordering::SeqCst);
        }
        sent
    }
}

/// One request; `None` when the other side is done.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("POST "), "{head}");
    let headers: HashMap<_, _> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request {
        headers,
        body: String::from_utf8(body).unwrap(),
    })
}
