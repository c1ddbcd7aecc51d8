//! A client for tests: one connection, one command at a time, `MOVED` followed.

use std::{
    io::{self, BufReader, Write},
    net::TcpStream,
    time::Duration,
};

use crate::resp;
pub use crate::resp::Reply;

/// A server that hangs must not hang a test.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whoever is asked; connects anew for each server that a cluster refers it to.
#[derive(Clone, Debug)]
pub struct Client {
    port: u16,
    /// User and password.
    login: Option<(String, String)>,
}

impl Client {
    /// Of a server that asks for nothing.
    pub fn new(port: u16) -> Self {
        Self { port, login: None }
    }

    /// Of a server that asks for a user.
    pub fn of_user(port: u16, user: &str, password: &str) -> Self {
        Self::with_login(port, Some((user.to_owned(), password.to_owned())))
    }

    pub(crate) fn with_login(port: u16, login: Option<(String, String)>) -> Self {
        Self { port, login }
    }

    /// Sends a command, gives what is answered.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub fn ask(&self, parts: &[&str]) -> io::Result<Reply> {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        let mut replies = self.ask_all(&[&parts])?;
        match replies.remove(0) {
            Reply::Error(text) => match moved(&text) {
                Some(port) => {
                    let there = Self::with_login(port, self.login.clone());
                    match there.ask_all(&[&parts])?.remove(0) {
                        Reply::Error(text) => Err(io::Error::other(text)),
                        reply => Ok(reply),
                    }
                }
                None => Err(io::Error::other(text)),
            },
            reply => Ok(reply),
        }
    }

    /// Sends commands in one go to this server, gives all answers, refusals among them.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub fn ask_all(&self, commands: &[&[&[u8]]]) -> io::Result<Vec<Reply>> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut bytes = Vec::new();
        if let Some((user, password)) = &self.login {
            bytes.extend(resp::command(&[
                b"AUTH",
                user.as_bytes(),
                password.as_bytes(),
            ]));
        }
        for command in commands {
            bytes.extend(resp::command(command));
        }
        let mut reader = BufReader::new(socket.try_clone()?);
        socket.write_all(&bytes)?;
        if self.login.is_some()
            && let Reply::Error(text) = resp::read(&mut reader)?
        {
            return Err(io::Error::other(text));
        }
        commands.iter().map(|_| resp::read(&mut reader)).collect()
    }

    /// The text under a key; `None` where there is none.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn get(&self, key: &str) -> io::Result<Option<String>> {
        Ok(match self.ask(&["GET", key])? {
            Reply::Nil => None,
            reply => Some(reply.text()),
        })
    }

    /// Puts a text under a key.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn set(&self, key: &str, value: &str) -> io::Result<()> {
        self.ask(&["SET", key, value]).map(drop)
    }

    /// A field of `INFO`; empty where there is none.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn info(&self, field: &str) -> io::Result<String> {
        let text = self.ask(&["INFO", "everything"])?.text();
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(found.unwrap_or_default().to_owned())
    }

    /// The names of all keys of this server, in order.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn keys(&self) -> io::Result<Vec<String>> {
        let mut keys = self.ask(&["KEYS", "*"])?.texts();
        keys.sort();
        Ok(keys)
    }

    /// The `event` fields of a stream, the oldest first.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn events(&self, stream: &str) -> io::Result<Vec<String>> {
        let reply = self.ask(&["XRANGE", stream, "-", "+"])?;
        let event = |entry: &Reply| entry.list().get(1)?.list().get(1).map(Reply::text);
        Ok(reply.list().iter().filter_map(event).collect())
    }
}

/// The port in `MOVED 866 127.0.0.1:7001`.
fn moved(text: &str) -> Option<u16> {
    let rest = text.strip_prefix("MOVED ")?;
    rest.rsplit_once(':')?.1.parse().ok()
}
