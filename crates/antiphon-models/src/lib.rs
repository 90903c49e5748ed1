//! Models that answer sampling.
