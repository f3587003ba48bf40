//! Flipped bits, torn tails, missing files.
use super::*;
