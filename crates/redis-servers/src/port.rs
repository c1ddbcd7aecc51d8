//! Ports that stay ours while a server is down: a lock on a file per port keeps other tests away, and
//! they lie below those that the kernel gives to outgoing connections.

use std::{
    fs::{self, File},
    io,
    net::TcpStream,
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
        for _ in 0..2_000 {
            if let Some(port) = Self::of(rand::random_range(FIRST..LAST)) {
                return Ok(port);
            }
        }
        Err(io::Error::other("no port is free"))
    }

    /// Finds several in a row.
    ///
    /// # Errors
    /// As [`Self::free`].
    pub fn row(count: u16) -> io::Result<Vec<Self>> {
        for _ in 0..100 {
            let first = rand::random_range(FIRST..LAST);
            let row: Vec<Self> = (first..first + count).map_while(Self::of).collect();
            if row.len() == usize::from(count) {
                return Ok(row);
            }
        }
        Err(io::Error::other("no ports in a row are free"))
    }

    fn of(number: u16) -> Option<Self> {
        let folder = std::env::temp_dir().join("ff-relay-test-ports");
        fs::create_dir_all(&folder).ok()?;
        let lock = File::create(folder.join(number.to_string())).ok()?;
        // Not by listening: a process that is being started at that moment would hold on to it.
        let is_refused = || {
            TcpStream::connect(("127.0.0.1", number))
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        };
        let free = lock.try_lock().is_ok() && is_refused();
        free.then_some(Self {
            number,
            _lock: lock,
        })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}
