//! One `redis-server`.

use std::{
    fmt::Write as _,
    fs, io,
    process::{Command, Stdio},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{Client, Leash, Port, eventually};

/// What a server that begins again finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// All that it had acknowledged.
    Kept,
    /// Nothing.
    Lost,
}

/// What is asked of a server.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The only user and its password; the default user is off.
    pub user: Option<(String, String)>,
    /// The password of the default user.
    pub password: Option<String>,
    /// The rules of `user`; empty: it may do everything.
    pub rules: String,
    /// Lines for its configuration.
    pub more: String,
    /// Speak TLS, with a certificate of this authority, on a port of its own beside the plain one
    /// that [`Redis::client`] uses.
    #[cfg(feature = "tls")]
    pub tls: Option<crate::Authority>,
}

impl Options {
    /// The user and password that it is reached with.
    pub(crate) fn login(&self) -> Option<(String, String)> {
        let default = |password: &String| ("default".to_owned(), password.clone());
        self.user
            .clone()
            .or_else(|| self.password.as_ref().map(default))
    }

    /// Lines by which a replica reaches its master.
    pub(crate) fn replication(&self) -> String {
        let mut text = self.more.clone();
        if let Some((user, password)) = self.login() {
            let _ = writeln!(text, "masteruser {user}\nmasterauth {}", quoted(&password));
        }
        if self.has_tls() {
            text += "tls-replication yes\n";
        }
        text
    }

    /// Whether TLS is asked for.
    pub(crate) fn has_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        return false;
    }
}

/// A running server; dropping it ends it.
pub struct Redis {
    pub(crate) port: Port,
    program: &'static str,
    options: Options,
    folder: TempDir,
    process: Option<Leash>,
    tls_port: Port,
}

impl Redis {
    /// A server that asks for nothing.
    ///
    /// # Errors
    /// `redis-server` is not installed, or does not start.
    pub fn start() -> io::Result<Self> {
        Self::with(Options::default())
    }

    /// A server with a user of its own; the default user is off.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with_user(user: &str, password: &str) -> io::Result<Self> {
        Self::with(Options {
            user: Some((user.to_owned(), password.to_owned())),
            ..Options::default()
        })
    }

    /// A server as asked for.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with(options: Options) -> io::Result<Self> {
        Self::of_program("redis-server", options)
    }

    pub(crate) fn of_program(program: &'static str, options: Options) -> io::Result<Self> {
        let mut server = Self {
            port: Port::free()?,
            program,
            options,
            folder: tempfile::Builder::new().prefix("ff-redis-").tempdir()?,
            process: None,
            tls_port: Port::free()?,
        };
        server.configure()?;
        server.begin()?;
        Ok(server)
    }

    /// Whether it speaks TLS.
    pub fn has_tls(&self) -> bool {
        self.options.has_tls()
    }

    #[cfg(feature = "tls")]
    fn tls_lines(&self) -> String {
        let Some(authority) = &self.options.tls else {
            return String::new();
        };
        format!(
            "tls-port {}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients no\n",
            self.tls_port.number(),
            authority.certificate.display(),
            authority.key.display(),
            authority.authority.display(),
        )
    }

    #[cfg(not(feature = "tls"))]
    fn tls_lines(&self) -> String {
        String::new()
    }

    fn configure(&self) -> io::Result<()> {
        let folder = self.folder.path().display();
        let mut text = format!(
            "port {}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/log\n",
            self.port.number()
        );
        if self.program == "redis-server" {
            // What is acknowledged has reached the kernel: it outlives `kill -9`.
            text += "save \"\"\nappendonly yes\nappendfsync no\nrepl-diskless-sync-delay 0\n";
        }
        if let Some((user, password)) = &self.options.user {
            let rules = match &*self.options.rules {
                "" => "~* &* +@all",
                rules => rules,
            };
            text += "user default off\n";
            let _ = writeln!(
                text,
                "user {user} on {} {rules}",
                quoted(&format!(">{password}"))
            );
        }
        if let Some(password) = &self.options.password {
            let _ = writeln!(text, "requirepass {}", quoted(password));
        }
        text += &self.options.more;
        text += &self.tls_lines();
        fs::write(self.folder.path().join("conf"), text)
    }

    fn begin(&mut self) -> io::Result<()> {
        let mut command = Command::new(self.program);
        command
            .arg(self.folder.path().join("conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let started = Leash::start(&mut command);
        let mut process = started.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::other(format!(
                "{} is not installed: apt-get install redis-server redis-sentinel",
                self.program
            )),
            _ => error,
        })?;
        let client = self.client();
        let answers = || client.ask(&["PING"]).is_ok();
        let mut ended = false;
        let waited = eventually("an answer of Redis", || {
            ended = !process.runs();
            ended || answers()
        });
        if ended || waited.is_err() {
            return Err(io::Error::other(format!(
                "{} does not start: {}",
                self.program,
                self.log()
            )));
        }
        self.process = Some(process);
        Ok(())
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its port, without TLS.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The port that others reach it by: that of TLS where it speaks TLS.
    pub fn public_port(&self) -> u16 {
        if self.has_tls() {
            self.tls_port.number()
        } else {
            self.port()
        }
    }

    /// What `REDIS_ADDRESS` takes, credentials included.
    pub fn address(&self) -> String {
        if self.has_tls() {
            let port = self.public_port();
            return format!("rediss://{}localhost:{port}", self.login_of_url());
        }
        self.address_at(self.port())
    }

    /// The same with another port: that of a [`crate::Proxy`].
    pub fn address_at(&self, port: u16) -> String {
        format!("redis://{}127.0.0.1:{port}", self.login_of_url())
    }

    pub(crate) fn login_of_url(&self) -> String {
        let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        match (&self.options.user, &self.options.password) {
            (Some((user, password)), _) => format!("{}:{}@", escaped(user), escaped(password)),
            (None, Some(password)) => format!(":{}@", escaped(password)),
            (None, None) => String::new(),
        }
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::with_login(self.port(), self.options.login())
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(Leash::runs)
    }

    /// Stops it in good order.
    ///
    /// # Errors
    /// It is gone already.
    pub fn stop(&mut self) -> io::Result<()> {
        match self.process.take() {
            Some(mut process) => {
                process.terminate()?;
                eventually("the end of Redis", || !process.runs())?;
                process.wait().map(drop)
            }
            None => Err(io::Error::other("it does not run")),
        }
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Begins again on the same port.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_again(&mut self, data: Data) -> io::Result<()> {
        self.kill();
        if data == Data::Lost {
            let _ = fs::remove_dir_all(self.folder.path().join("appendonlydir"));
            let _ = fs::remove_file(self.folder.path().join("dump.rdb"));
        }
        self.begin()
    }

    /// Stops its clock: connections stay, nothing is answered, as behind a network that swallows
    /// everything.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self) -> io::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let process = self.process.as_ref();
        process
            .ok_or_else(|| io::Error::other("it does not run"))?
            .signal(signal)
    }
}

/// As a value in a configuration file.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
