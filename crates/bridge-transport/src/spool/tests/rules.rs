//! One promise each.
use super::*;
