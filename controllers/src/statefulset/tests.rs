//! Plans of a StatefulSet: order, identity, storage, updates, status. `fixtures` makes what they are about.

mod fixtures;
mod pods;
mod storage;
mod updates;
