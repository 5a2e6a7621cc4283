//! What must survive the death of a process.
