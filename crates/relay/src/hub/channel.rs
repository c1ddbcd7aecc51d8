//! What lies between a stream's bytes and its socket: nothing, or TLS.

use std::{
    borrow::Cow,
    io::{self, Write as _},
};

use rustls::ServerConnection;

/// One connection's way of speaking.
pub trait Channel: Send {
    /// What goes to the socket for these bytes.
    ///
    /// # Errors
    /// Nothing more can be said.
    fn seal<'b>(&mut self, bytes: &'b [u8]) -> io::Result<Cow<'b, [u8]>>;

    /// Takes what came from the client, which has nothing to say but that it goes; whether it stays.
    fn takes(&mut self, bytes: &[u8]) -> bool;

    /// What is said before the socket is closed.
    fn farewell(&mut self) -> Vec<u8>;
}

/// Nothing.
pub struct Clear;

impl Channel for Clear {
    fn seal<'b>(&mut self, bytes: &'b [u8]) -> io::Result<Cow<'b, [u8]>> {
        Ok(Cow::Borrowed(bytes))
    }

    fn takes(&mut self, _: &[u8]) -> bool {
        true
    }

    fn farewell(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

/// TLS behind its handshake. In a box: a stream in clear keeps no room for it.
pub struct Sealed(Box<ServerConnection>);

impl Sealed {
    /// Goes on with a session of which everything is sent.
    pub fn new(session: ServerConnection) -> Self {
        Self(Box::new(session))
    }

    /// What the session has to send.
    fn records(&mut self, least: usize) -> io::Result<Vec<u8>> {
        let mut records = Vec::with_capacity(least);
        while self.0.wants_write() {
            self.0.write_tls(&mut records)?;
        }
        Ok(records)
    }

    fn read(&mut self, mut bytes: &[u8]) -> io::Result<bool> {
        while !bytes.is_empty() {
            self.0.read_tls(&mut bytes)?;
            let state = self.0.process_new_packets().map_err(io::Error::other)?;
            if state.peer_has_closed() {
                return Ok(false);
            }
            if state.plaintext_bytes_to_read() > 0 {
                // It ends with an error once nothing is left.
                let _ = io::copy(&mut self.0.reader(), &mut io::sink());
            }
        }
        Ok(true)
    }
}

impl Channel for Sealed {
    fn seal<'b>(&mut self, bytes: &'b [u8]) -> io::Result<Cow<'b, [u8]>> {
        self.0.writer().write_all(bytes)?;
        // A record adds less than this; events of a write fit one.
        self.records(bytes.len() + 64).map(Cow::Owned)
    }

    fn takes(&mut self, bytes: &[u8]) -> bool {
        self.read(bytes).unwrap_or(false)
    }

    fn farewell(&mut self) -> Vec<u8> {
        self.0.send_close_notify();
        self.records(0).unwrap_or_default()
    }
}
