//! the files a build may read.
