//! Tests of the table as a whole. `world` is the bench they all stand on.

mod basic;
mod concurrent;
mod faults;
mod model;
mod pins;
mod search;
mod storm;
mod structures;
mod undo;
mod world;
