//! HTTP itself: framing, bodies with bounds, query strings, and the one way every request takes.

pub(crate) mod body;
pub(crate) mod failure;
pub(crate) mod limit;
pub(crate) mod query;
pub(crate) mod quota;
pub(crate) mod request;
pub(crate) mod serve;
