//! runs a plan.
