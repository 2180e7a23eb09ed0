//! text → AST with spans; expansion; lint; diagnostics. No I/O.
