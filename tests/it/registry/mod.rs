//! Test images from registries: Debian's `docker-registry` on loopback, with authentication, and with faults and crashes;
//! hostile servers; token servers; shared caches, which many runners use at the same time.

mod access;
mod actions;
mod bucket;
mod bucket_faults;
mod cache;
mod configuration;
mod crashes;
mod exact;
mod faults;
mod hostile;
mod imagetools;
mod large;
mod lookup;
mod manifest;
mod messages;
mod names;
mod parts;
mod platforms;
mod push;
mod requests;
mod runners;
mod tls;
mod tutorial;
