//! arguments in, exit code out.
