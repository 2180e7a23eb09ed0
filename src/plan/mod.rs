//! AST and arguments → graph of steps. No I/O.
