//! Ports that stay ours while a server is down: a lock on a file per port keeps other tests away, and
//! they lie below those that the kernel gives to outgoing connections.

use std::{
    fs::{self, File},
    io,
    net::TcpListener,
};

const FIRST: u16 = 12_000;
const LAST: u16 = 32_000;

/// A port of 127.0.0.1 that nobody else who asks here gets, until it is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Finds one.
    ///
    /// # Errors
    /// None is free.
    pub fn free() -> io::Result<Self> {
        let folder = std::env::temp_dir().join("ff-relay-test-ports");
        fs::create_dir_all(&folder)?;
        for _ in 0..2_000 {
            let number = rand::random_range(FIRST..LAST);
            let lock = File::create(folder.join(number.to_string()))?;
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self {
                    number,
                    _lock: lock,
                });
            }
        }
        Err(io::Error::other("no port is free"))
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}
