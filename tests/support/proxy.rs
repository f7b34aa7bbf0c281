//! A proxy for tests: CONNECT, with a password if one is wanted (RFC 9110, 9.3.6).

#![allow(dead_code, unreachable_pub, missing_docs)]

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The proxy; whatever host is asked for, it is found on loopback.
pub struct Proxy {
    pub port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Lets through whoever sends this `Proxy-Authorization`, if one is given.
    pub fn start(authorization: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, authorization) = (Arc::clone(&seen), authorization.clone());
                std::thread::spawn(move || drop(tunnel(stream, &seen, authorization.as_deref())));
            }
        });
        Self { port, asked }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Whom it was asked to connect to so far, as `HOST:PORT`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn tunnel(mut client: TcpStream, seen: &Mutex<Vec<String>>, authorization: Option<&str>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let target = line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let mut is_known = authorization.is_none();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        match header.trim_end().split_once(": ") {
            Some((name, value)) => {
                is_known |= name.eq_ignore_ascii_case("proxy-authorization") && Some(value) == authorization;
            }
            None => break,
        }
    }
    seen.lock().unwrap().push(target.clone());
    if !is_known {
        return client.write_all(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n");
    }
    let port = target.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).unwrap_or(0);
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
    let back = std::thread::spawn(move || drop(io::copy(&mut from, &mut to)));
    io::copy(&mut reader, &mut server).ok();
    server.shutdown(std::net::Shutdown::Both).ok();
    back.join().ok();
    Ok(())
}
