//! Test images from registries: Debian's `docker-registry` on loopback, with authentication, and with faults; and
//! hostile servers.

mod access;
mod configuration;
mod faults;
mod hostile;
mod manifest;
mod names;
mod platforms;
mod push;
mod tutorial;
