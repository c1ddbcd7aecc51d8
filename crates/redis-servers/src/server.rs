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
}

/// A running server; dropping it ends it.
pub struct Redis {
    pub(crate) port: Port,
    program: &'static str,
    options: Options,
    folder: TempDir,
    process: Option<Leash>,
    #[cfg(feature = "tls")]
    tls: Option<(crate::Authority, Port)>,
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
            #[cfg(feature = "tls")]
            tls: None,
        };
        server.configure("")?;
        server.begin()?;
        Ok(server)
    }

    /// A server that speaks TLS on a port of its own, beside the plain one that [`Self::client`]
    /// uses. Its certificate is for `localhost` and 127.0.0.1.
    ///
    /// # Errors
    /// As [`Self::start`].
    #[cfg(feature = "tls")]
    pub fn with_tls(options: Options) -> io::Result<Self> {
        let mut server = Self {
            port: Port::free()?,
            program: "redis-server",
            options,
            folder: tempfile::Builder::new().prefix("ff-redis-").tempdir()?,
            process: None,
            tls: None,
        };
        let authority = crate::Authority::write(server.folder.path())?;
        let port = Port::free()?;
        server.configure(&format!(
            "tls-port {}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients no\n",
            port.number(),
            authority.certificate.display(),
            authority.key.display(),
            authority.authority.display(),
        ))?;
        server.tls = Some((authority, port));
        server.begin()?;
        Ok(server)
    }

    /// The file of the authority that signed this server's certificate.
    #[cfg(feature = "tls")]
    pub fn authority(&self) -> Option<&std::path::Path> {
        let (authority, _) = self.tls.as_ref()?;
        Some(&authority.authority)
    }

    fn configure(&self, more: &str) -> io::Result<()> {
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
        text += more;
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

    /// What `REDIS_ADDRESS` takes, credentials included.
    pub fn address(&self) -> String {
        #[cfg(feature = "tls")]
        if let Some((_, port)) = &self.tls {
            let login = self.login_of_url();
            return format!("rediss://{login}localhost:{}", port.number());
        }
        self.address_at(self.port())
    }

    /// The same with another port: that of a [`crate::Proxy`].
    pub fn address_at(&self, port: u16) -> String {
        format!("redis://{}127.0.0.1:{port}", self.login_of_url())
    }

    fn login_of_url(&self) -> String {
        let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        match (&self.options.user, &self.options.password) {
            (Some((user, password)), _) => format!("{}:{}@", escaped(user), escaped(password)),
            (None, Some(password)) => format!(":{}@", escaped(password)),
            (None, None) => String::new(),
        }
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        let login = match (&self.options.user, &self.options.password) {
            (Some(user), _) => Some(user.clone()),
            (None, Some(password)) => Some(("default".to_owned(), password.clone())),
            (None, None) => None,
        };
        Client::with_login(self.port(), login)
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
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
