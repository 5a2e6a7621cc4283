//! posternctl, one file a subcommand.
