//! keys, records, reasons.
