//! postern: sends knocks.
