//! Volumes of pods on this host. Not built yet; see `traits::VolumeService`.
