//! Relays as processes of their own: what `kill -9` does to one, and everything that it prints.

use std::{
    io::Read,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use ff_redis_servers::{Leash, Port};
use ff_relay::role::{RunError, Signals};

use super::Relay;

/// Everything that a process has printed so far.
#[derive(Clone, Default)]
pub struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    pub fn says(&self, text: &str) -> bool {
        self.text().contains(text)
    }

    /// Starts a process and keeps what it prints.
    pub fn of(command: &mut Command) -> (Leash, Self) {
        let mut leash =
            Leash::start(command.stdout(Stdio::piped()).stderr(Stdio::piped())).unwrap();
        let printed = Self::default();
        printed.follow(leash.child().stdout.take().unwrap());
        printed.follow(leash.child().stderr.take().unwrap());
        (leash, printed)
    }

    fn follow(&self, mut pipe: impl Read + Send + 'static) {
        let printed = self.0.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 8_192];
            while let Ok(read @ 1..) = pipe.read(&mut buffer) {
                printed.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        });
    }
}

/// Starts the binary with these settings and no others. [`Relay::stop`] sends it SIGTERM,
/// [`Relay::kill`] kills it.
pub fn process(variables: &[(&str, &str)]) -> (Relay, Printed) {
    let port = Port::free().unwrap();
    let number = port.number();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ff-relay"));
    command
        .env_clear()
        .env("PORT", number.to_string())
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    let (mut leash, printed) = Printed::of(&mut command);
    let signals = Signals::default();
    let told = signals.clone();
    let ended = tokio::spawn(async move {
        let _port = port;
        let mut asked = false;
        while leash.runs() {
            tokio::select! {
                () = told.first(), if !asked => {
                    asked = true;
                    leash.terminate().unwrap();
                }
                () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {}
            }
        }
        match leash.wait() {
            Ok(status) if status.success() => Ok(()),
            other => Err(RunError::Start(format!("ended with {other:?}"))),
        }
    });
    let relay = Relay {
        url: format!("http://127.0.0.1:{number}"),
        port: number,
        signals,
        ended,
        http: super::http(),
    };
    (relay, printed)
}
