//! What the tests that cross crates need: fakes of the world around the product.
//!
//! - [`fake_plane`]: a control plane that refuses, stalls, drops and sends what a test wants;
//! - [`fake_gateway`]: a gateway of OpenClaw whose agents do what their prompt says;
//! - [`bridge`]: a whole bridge in this process, [`wire`]: what is said to it;
//! - [`home`]: a home folder of its own, with real `ctrlnode` processes in it;
//! - [`mock_model`]: a model server for the real agents, scripted by the prompt;
//! - [`raw_endpoint`]: an HTTP server that answers with any bytes, however wrong;
//! - [`recorder`]: an agent that notes how its conversations are opened;
//! - [`program`]: the product as a program of its own;
//! - [`scenario`]: scripted integration tests, read from TOML files;
//! - [`talk`]: a conversation with one agent, without a bridge around it;
//! - [`loopback`]: an HTTP client for servers of this machine.

pub mod bridge;
pub mod fake_gateway;
pub mod fake_plane;
pub mod home;
pub mod loopback;
pub mod mock_model;
pub mod program;
pub mod raw_endpoint;
pub mod recorder;
pub mod scenario;
pub mod talk;
pub mod wire;
