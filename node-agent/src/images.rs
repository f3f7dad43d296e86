//! Images of this host: registry, store, unpacking. Not built yet; see `traits::ImageService`.
