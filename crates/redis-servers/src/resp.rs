//! The protocol of Redis, as far as tests need it: replies of a server, and the bounds of commands
//! that pass by.

use std::{fmt, io, io::BufRead};

/// What a server answers.
#[derive(Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing there.
    Nil,
    /// A number.
    Integer(i64),
    /// Text or bytes.
    Text(Vec<u8>),
    /// Several.
    List(Vec<Reply>),
    /// A refusal.
    Error(String),
}

impl Reply {
    /// As text; empty for what is none.
    pub fn text(&self) -> String {
        match self {
            Self::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Integer(number) => number.to_string(),
            Self::Error(text) => text.clone(),
            Self::Nil | Self::List(_) => String::new(),
        }
    }

    /// The parts of a list; none of anything else.
    pub fn list(&self) -> &[Reply] {
        match self {
            Self::List(parts) => parts,
            _ => &[],
        }
    }

    /// The parts of a list as text.
    pub fn texts(&self) -> Vec<String> {
        self.list().iter().map(Self::text).collect()
    }

    /// As a number; 0 for what is none.
    pub fn number(&self) -> i64 {
        match self {
            Self::Integer(number) => *number,
            other => other.text().parse().unwrap_or(0),
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::List(parts) => f.debug_list().entries(parts).finish(),
            other => write!(f, "{:?}", other.text()),
        }
    }
}

/// The bytes of a command.
pub(crate) fn command(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", parts.len()).into_bytes();
    for part in parts {
        bytes.extend(format!("${}\r\n", part.len()).as_bytes());
        bytes.extend_from_slice(part);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// Reads one reply.
pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let odd = || io::Error::other("not a reply of Redis");
    let rest = line.get(1..).ok_or_else(odd)?.trim_end().to_owned();
    let length = || rest.parse::<i64>().map_err(|_| odd());
    Ok(match line.as_bytes()[0] {
        b'+' => Reply::Text(rest.into_bytes()),
        b'-' => Reply::Error(rest),
        b':' => Reply::Integer(length()?),
        b'$' => match usize::try_from(length()?) {
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                from.read_exact(&mut bytes)?;
                bytes.truncate(length);
                Reply::Text(bytes)
            }
            Err(_) => Reply::Nil,
        },
        b'*' => match usize::try_from(length()?) {
            Ok(length) => Reply::List((0..length).map(|_| read(from)).collect::<Result<_, _>>()?),
            Err(_) => Reply::Nil,
        },
        _ => return Err(odd()),
    })
}

/// Finds the commands in what a client sends, however it is cut into pieces.
#[derive(Default)]
pub(crate) struct Commands {
    /// What is not a whole line yet.
    line: Vec<u8>,
    /// Bytes of a value that are still to come, its line end included.
    value: usize,
    /// Values of the command that are still to come.
    parts: usize,
    /// Whether the value is the command's name.
    named: bool,
    name: Vec<u8>,
}

impl Commands {
    /// Takes a piece; gives the names of the commands that became whole with it.
    pub(crate) fn feed(&mut self, mut piece: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        while !piece.is_empty() {
            if self.value > 0 {
                let taken = self.value.min(piece.len());
                if !self.named {
                    self.name.extend_from_slice(&piece[..taken]);
                }
                self.value -= taken;
                piece = &piece[taken..];
                if self.value == 0 {
                    self.named = true;
                    self.parts = self.parts.saturating_sub(1);
                    if self.parts == 0 {
                        let name = String::from_utf8_lossy(&self.name);
                        found.push(name.trim_end().to_ascii_uppercase());
                        self.name.clear();
                    }
                }
                continue;
            }
            let end = piece.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(piece.len(), |end| end + 1);
            self.line.extend_from_slice(&piece[..taken]);
            piece = &piece[taken..];
            if end.is_some() {
                self.take_line();
            }
        }
        found
    }

    fn take_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        let number = line.get(1..).and_then(|text| text.trim().parse().ok());
        match (line.as_bytes().first(), number) {
            (Some(b'*'), Some(parts)) => {
                self.parts = parts;
                self.named = false;
            }
            (Some(b'$'), Some(length)) => self.value = length + 2,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Commands, Reply, command, read};

    #[test]
    fn commands_are_found_however_they_are_cut() {
        let mut bytes = command(&[b"set", b"k", b"a\r\n*1\r\n$4\r\nPING\r\n"]);
        bytes.extend(command(&[b"PING"]));
        bytes.extend(command(&[b"get", b""]));
        for size in 1..bytes.len() {
            let mut commands = Commands::default();
            let found: Vec<String> = bytes
                .chunks(size)
                .flat_map(|piece| commands.feed(piece))
                .collect();
            assert_eq!(found, ["SET", "PING", "GET"], "in pieces of {size}");
        }
    }

    #[test]
    fn replies_are_read() {
        let mut bytes: &[u8] = b"*5\r\n:7\r\n$-1\r\n$2\r\nab\r\n+OK\r\n*1\r\n-ERR no\r\n";
        let reply = read(&mut bytes).expect("a reply");
        let text = |text: &str| Reply::Text(text.into());
        let refused = Reply::List(vec![Reply::Error("ERR no".into())]);
        let whole = [
            Reply::Integer(7),
            Reply::Nil,
            text("ab"),
            text("OK"),
            refused,
        ];
        assert_eq!(reply, Reply::List(whole.into()));
        assert!(read(&mut bytes).is_err());
    }
}
