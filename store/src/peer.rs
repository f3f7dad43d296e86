//! Between members: connections, the peer service, snapshot transfer.
//!
//! Not consensus itself. Invariant: both ends have shown a certificate of the same authority (unless the peer URLs are
//! plain http), and every call names its cluster and its target.

pub(crate) mod connect;
pub(crate) mod dial;
pub(crate) mod service;
pub(crate) mod transfer;
