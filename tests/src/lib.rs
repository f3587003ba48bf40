//! What the tests that cross crates need: fakes of the world around the product.
//!
//! - [`mock_model`]: a model server for the real agents, scripted by the prompt;
//! - [`program`]: the product as a program of its own;
//! - [`loopback`]: an HTTP client for servers of this machine.

pub mod loopback;
pub mod mock_model;
pub mod program;
