//! The connection to the account stream, open or not, as one thing to wait for.

use std::{future::pending, pin::Pin};

use tokio::time::{Instant, sleep_until};

use super::{
    account_stream::{AccountStream, Lost},
    error::Error,
    sse::Item,
};

type Open = Pin<Box<dyn Future<Output = Result<AccountStream, Error>> + Send>>;

/// How the stream stands.
pub(super) enum Link {
    /// Not wanted (yet).
    Idle,
    /// To be opened at that moment.
    Down(Instant),
    /// Being opened.
    Opening(Open),
    /// Open.
    Open(Box<AccountStream>),
}

/// What happened to it.
pub(super) enum LinkEvent {
    /// It is time to open it.
    Due,
    /// It is open now.
    Opened(Box<AccountStream>),
    /// It could not be opened.
    OpenFailed(Error),
    /// An event came.
    Item(Item),
    /// It is gone.
    Lost(Lost),
}

impl Link {
    /// What happens next. Loses nothing when it is dropped before it is done. After anything but
    /// an item the caller sets the new state.
    pub(super) async fn next(&mut self) -> LinkEvent {
        match self {
            Self::Idle => pending().await,
            Self::Down(moment) => {
                sleep_until(*moment).await;
                LinkEvent::Due
            }
            Self::Opening(open) => match open.await {
                Ok(stream) => LinkEvent::Opened(Box::new(stream)),
                Err(error) => LinkEvent::OpenFailed(error),
            },
            Self::Open(stream) => match stream.next().await {
                Ok(item) => LinkEvent::Item(item),
                Err(lost) => LinkEvent::Lost(lost),
            },
        }
    }
}
