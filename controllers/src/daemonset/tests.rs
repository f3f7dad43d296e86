//! Plans of a DaemonSet: where pods belong, how many there are, updates, status. `fixtures` makes what they are about.

mod fixtures;
mod places;
mod pods;
mod updates;
