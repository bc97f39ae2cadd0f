//! The integration tests: one binary, the outside world as a model.

mod signature;
mod tidy;
