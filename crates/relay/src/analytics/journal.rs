//! Where metrics are kept until they are where they belong: what the analytics need of a disk, and
//! of the stream that a message came from.

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub use crate::redis::stream::StreamId;
use crate::state::EnvironmentId;

/// Where something that was taken in is kept as well as in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A record of the journal, and its size.
    Record(u64, usize),
    /// A message of the stream.
    Message(StreamId),
}

/// A record on its way to the disk.
pub struct Appended {
    /// Its number.
    pub number: u64,
    /// Whether it is on disk, once that is certain.
    pub kept: BoxFuture<'static, bool>,
}

/// A journal on disk. Nothing here waits: what is asked for is done in the order it was asked for.
pub trait Journal: Send + Sync {
    /// Appends a body of an environment.
    fn append(&self, environment: &EnvironmentId, body: Bytes) -> Appended;

    /// Forgets records, and appends what is left of them in the same commit.
    fn replace(&self, records: Vec<u64>, rest: Option<(&EnvironmentId, Bytes)>)
    -> Option<Appended>;

    /// Whether a record could not be kept since this was last asked, and could be now.
    fn has_gap(&self) -> bool;
}

/// The stream that messages came from.
pub trait Acknowledge: Send + Sync {
    /// SaaS has them, or they are safe elsewhere.
    fn taken(&self, messages: Vec<StreamId>);

    /// Puts `sums` at the end of the stream in the place of `messages`, all of it or nothing.
    ///
    /// # Errors
    /// Why that was not done.
    fn put_back(
        &self,
        sums: Vec<Vec<u8>>,
        messages: Vec<StreamId>,
    ) -> BoxFuture<'_, Result<(), String>>;

    /// Messages that it keeps for this process before it pushes any out.
    fn room(&self) -> usize;

    /// Ready once nothing is left to acknowledge.
    fn settled(&self) -> BoxFuture<'_, ()>;
}
