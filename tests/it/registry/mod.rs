//! Images that come from a registry: Debian's `docker-registry` on loopback, as it is, guarded, broken and unreliable.

mod access;
mod faults;
mod hostile;
mod names;
