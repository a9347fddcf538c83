//! A request that failed, before a dialect has words for it.

use axum::http::StatusCode;
use knarr_base::{Error, Kind};

/// What went wrong, and where: the same error has another status at the door than behind it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) place: Place,
    pub(crate) error: Error,
}

/// Where a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// There is no such path.
    Path,
    /// The path does not take this method.
    Method,
    /// The body is over its bound; its length is known before anything else.
    Body,
    /// Anywhere else before or around the operation.
    Gate,
    /// In the operation itself.
    Call,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { place: Place::Gate, error }
    }
}

impl Failure {
    pub(crate) fn unknown_path() -> Self {
        Self { place: Place::Path, error: Error::new(Kind::Unsupported, "no such path") }
    }

    pub(crate) fn wrong_method() -> Self {
        Self { place: Place::Method, error: Error::new(Kind::Unsupported, "only GET and POST") }
    }

    pub(crate) fn of_call(error: Error) -> Self {
        Self { place: Place::Call, error }
    }

    /// A body over its bound has a status of its own; a list over its bound has not.
    pub(crate) fn of_body(error: Error) -> Self {
        let place = if error.kind() == Kind::TooLarge { Place::Body } else { Place::Gate };
        Self { place, error }
    }
}

/// What a refused caller is sent, in the words of a dialect.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    /// The dialect's code as text, for logs and metrics.
    pub(crate) code: &'static str,
    pub(crate) body: Vec<u8>,
}
