//! The pod network of this host. Not built yet; see `traits::PodNetwork`.
