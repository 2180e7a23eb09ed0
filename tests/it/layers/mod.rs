//! Layers: exact to the last attribute, the same wherever they are made, safe from what is in them.

mod diff;
mod fuzz;
mod hostile;
mod oracle;
mod round_trip;
mod same_bytes;
