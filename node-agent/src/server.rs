//! The agent's HTTPS server: logs, exec, attach, port-forward. Not built yet; see `traits::PodAccess`.
