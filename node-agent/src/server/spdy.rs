//! SPDY/3.1 as Kubernetes' clients speak it: streams in both directions over one connection, headers compressed with SPDY's
//! dictionary. Server side only; flow-control windows are neither kept nor announced, as in the Go implementation that all
//! those clients use.

pub(super) mod command;
pub(super) mod connection;
mod frame;
mod headers;

#[cfg(test)]
mod tests;
