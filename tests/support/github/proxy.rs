//! A tiny HTTP proxy: tunnels on CONNECT, forwards absolute addresses, remembers what it was asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

#[derive(Clone)]
pub struct Proxy {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// A proxy behind which every host is `upstream`.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), heads: Arc::default() };
        let heads = Arc::clone(&proxy.heads);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, upstream, Arc::clone(&heads)));
            }
        });
        proxy
    }

    /// The heads of what it was asked, each with its headers.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve(mut client: TcpStream, upstream: SocketAddr, heads: Arc<Mutex<Vec<String>>>) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if client.read_exact(&mut byte).await.is_err() {
            return;
        }
        seen.extend(byte);
    }
    let head = String::from_utf8(seen.clone()).unwrap();
    heads.lock().unwrap().push(head.clone());
    let mut upstream = TcpStream::connect(upstream).await.unwrap();
    if head.starts_with("CONNECT ") {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    } else {
        upstream.write_all(&seen).await.unwrap();
    }
    let _ = copy_bidirectional(&mut client, &mut upstream).await;
}
