//! A process that ends with its owner, however that ends.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

/// A child process on a leash. Dropping it kills it; if its owner is killed, so is it: a shell waits
/// for the end of a pipe that only the owner holds open.
pub struct Leash {
    child: Child,
    watcher: Child,
}

impl Leash {
    /// Starts the process, in a group of its own: a Ctrl-C of the terminal is the owner's to handle.
    ///
    /// # Errors
    /// It, or `sh`, cannot be started.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command.process_group(0).spawn()?;
        let watcher = Command::new("sh")
            .args(["-c", "read -r _; kill -9 \"$0\" 2>/dev/null"])
            .arg(child.id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match watcher {
            Ok(watcher) => Ok(Self { child, watcher }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// The process, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The process is gone.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("no process identifier"))?;
        Ok(kill_process(pid, signal)?)
    }

    /// Asks it to stop.
    ///
    /// # Errors
    /// The process is gone.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        // Whoever waits has seen to the end; the identifier may be somebody else's afterwards.
        let _ = self.watcher.kill();
        let _ = self.watcher.wait();
        self.child.wait()
    }

    /// Closes the pipe, as the end of the owner does: the process is killed.
    pub fn let_go(&mut self) {
        self.watcher.stdin = None;
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.wait();
    }
}
